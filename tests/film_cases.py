"Clean mammograms made into bad films, by seed: edges, frames, letters, tapes, scratches; what test_film.py looks for."
import cv2, numpy as np
from nlbs_cvae.core import rng
from nlbs_cvae.breast import air_level, chest_wall

def simple_mask(im):
    "The breast of a clean image (H,W) bool by the simplest rule: the largest piece above the air, its holes filled, at the wall too."
    above = (cv2.GaussianBlur(im, (3, 3), 0) > air_level(im)).astype(np.uint8)
    n, labels, stats, _ = cv2.connectedComponentsWithStats(cv2.morphologyEx(above, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)))
    piece = cv2.dilate((labels == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()).astype(np.uint8), np.ones((5, 5), np.uint8)) & above
    side, rows = (slice(1) if chest_wall(piece) != 'right' else slice(-1, None)), np.flatnonzero(piece.any(1))
    closed = piece.copy()
    closed[rows[0]:rows[-1] + 1, side] = 1 # dark fat at the chest wall is breast
    contours, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros_like(piece), contours, -1, 1, cv2.FILLED)
    added = cv2.morphologyEx(filled & ~piece & 1, cv2.MORPH_OPEN, np.ones((9, 9), np.uint8)) # a black line at the wall isn't
    wide = np.ones((1, 2*round(.03*im.shape[1]) + 1), np.uint8) # what is narrower is an edge of the film's own, or a fold along it
    return cv2.morphologyEx(added | piece, cv2.MORPH_OPEN, wide, borderValue=0) > 0

def has_edge(im, breast):
    "Has the film a white edge of its own at the chest wall, over a quarter of the breast? Then it is no clean image."
    left = chest_wall(breast) != 'right'
    im, breast = (im, breast) if left else (im[:, ::-1], breast[:, ::-1])
    soft, rows = cv2.GaussianBlur(im, (1, 5), 0), breast[:, :8].any(1)
    return bool(((soft[:, :3].max(1) - soft[:, 6:9].mean(1))[rows] > .1).mean() > .25)

def _line(art, side, a, b, depth0, depth1, grey, tilt=0.):
    "A strip along a side, from share a to b of it, depth in pixels, with a tilt in pixels over the side."
    h, w = art.shape
    n = h if side in 'lr' else w
    s = np.arange(int(a*n), int(b*n))
    off = tilt*(s/n - .5)
    for p, o in zip(s, off):
        lo, hi = int(round(depth0 + o)), int(round(depth1 + o))
        lo, hi = max(lo, 0), max(hi, 0)
        if hi <= lo: continue
        g = grey(p/n) if callable(grey) else grey
        if side == 'l': art[p, lo:hi] = np.maximum(art[p, lo:hi], g)
        if side == 'r': art[p, w-hi:w-lo] = np.maximum(art[p, w-hi:w-lo], g)
        if side == 't': art[lo:hi, p] = np.maximum(art[lo:hi, p], g)
        if side == 'b': art[h-hi:h-lo, p] = np.maximum(art[h-hi:h-lo, p], g)

def _text(shape, text, at, scale, angle):
    ink = np.zeros(shape, np.uint8)
    t = max(1, round(2.2*scale))
    (tw, th), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, t)
    cv2.putText(ink, text, (int(at[0] - tw/2), int(at[1] + th/2)), cv2.FONT_HERSHEY_SIMPLEX, scale, 255, t)
    m = cv2.getRotationMatrix2D((float(at[0]), float(at[1])), angle, 1)
    return cv2.warpAffine(ink, m, shape[::-1])/np.float32(255)

def _free_places(breast, r, gap):
    "Centres (x, y) outside the breast, by distance to it in pixels."
    d = cv2.distanceTransform(1 - breast.astype(np.uint8), cv2.DIST_L2, 3)
    h, w = breast.shape
    m = .06*max(h, w)
    ok = (d > gap[0]) & (d < gap[1])
    ok[:int(m)] = ok[-int(m):] = False
    ok[:, :int(m)] = ok[:, -int(m):] = False
    ys, xs = np.nonzero(ok)
    if not len(ys): return None
    i = r.integers(len(ys))
    return int(xs[i]), int(ys[i])

KINDS = ('edge', 'edges', 'letters', 'tape', 'frame', 'frame in the picture', 'white frame, black strip', 'scratch', 'bridge', 'black strip', 'glow', 'many')

def spoil(im, breast, kind, seed):
    "Image (H,W) in [0,1] and its breast (bool): the same as a bad film, and where it was drawn on (bool)."
    r = rng(seed, 'film', kind)
    h, w = im.shape
    side = max(h, w)
    art, black = np.zeros_like(im), np.zeros(im.shape, bool)
    wall = 'l' if breast[:, :max(1, w//16)].sum() >= breast[:, -max(1, w//16):].sum() else 'r'
    def edge(s=None, whole=None):
        s = s or r.choice(list('lrtb'))
        whole = r.random() < .5 if whole is None else whole
        a, b = (0, 1) if whole else np.sort(r.uniform(0, 1, 2))
        if b - a < .25: a, b = max(0, a - .15), min(1, b + .15)
        n = w if s in 'lr' else h
        width = max(1, r.choice([.004, .008, .015, .03, .045])*n)
        bright = r.uniform(.45, 1)
        g0, g1 = bright, bright*r.uniform(.5, 1)
        grey = (lambda t: g0 + (g1 - g0)*t) if r.random() < .4 else bright
        _line(art, s, a, b, 0, width, grey, r.choice([0, 0, .5, 1])*width*r.choice([-1, 1]))
    def letters(where=(.04, .6), big=None):
        text = r.choice(['RCC', 'L MLO', 'R MLO', 'LCC', '27', 'R', 'L CC 4', '1998', 'MLO  R'])
        at = _free_places(breast, r, (where[0]*side, where[1]*side))
        if at: np.maximum(art, r.uniform(.5, 1)*_text(im.shape, text, at, side/r.uniform(350, 700), r.choice([0, 0, 90, -60, 30, 180])), out=art)
        return at
    def tape(where=(.06, .6)):
        at = _free_places(breast, r, (where[0]*side, where[1]*side))
        if not at: return
        tw, th = r.uniform(.08, .22)*side, r.uniform(.04, .1)*side
        box = cv2.boxPoints(((float(at[0]), float(at[1])), (float(tw), float(th)), float(r.choice([0, 0, 90, 5, -20, 45])))).astype(np.int32)
        g = r.uniform(.2, .7)
        patch = cv2.fillPoly(np.zeros(im.shape, np.uint8), [box], 1)
        art[:] = np.where(patch > 0, np.float32(g), art)
        if r.random() < .7: np.maximum(art, _text(im.shape, r.choice(['ST 4471', 'R CC', '12.03.97', 'HOSP']), at, tw/160, 0), out=art)
        return at
    def bridge(at):
        "A thin line from there to the breast."
        d = np.argwhere(breast)
        d = d[np.argmin(((d - at[::-1])**2).sum(1))]
        cv2.line(art, at, (int(d[1]), int(d[0])), float(r.uniform(.3, .8)), max(1, int(r.uniform(.002, .008)*side)))
    def frame(depth, width, gaps):
        n = int(round(depth)) # outside the frame nothing was exposed, or everything
        for outside in (black[:n], black[h-n:], black[:, :n], black[:, w-n:]): outside[:] = True
        if r.random() < .3: art[black] = 1
        for s in 'lrtb':
            pieces = [(0, 1)] if not gaps else [(0, r.uniform(.2, .5)), (r.uniform(.55, .7), 1)]
            for a, b in pieces: _line(art, s, a, b, depth, depth + width, g, r.choice([0, 0, 1])*.5*width)
    g = r.uniform(.6, 1)
    if kind == 'edge': edge()
    elif kind == 'edges': [edge() for _ in range(r.integers(2, 5))]
    elif kind == 'letters': [letters() for _ in range(r.integers(1, 4))]
    elif kind == 'tape': [tape() for _ in range(r.integers(1, 3))]
    elif kind == 'frame': frame(0, max(1, r.choice([.003, .006, .012, .03])*side), r.random() < .4)
    elif kind == 'frame in the picture': frame(r.uniform(.005, .03)*side, max(1, r.choice([.003, .006, .01])*side), r.random() < .3)
    elif kind == 'white frame, black strip':
        g = 1
        width = max(1, round(r.choice([.004, .008, .02])*side)); frame(0, width, False)
        n = round(width + max(1, r.choice([1, 2, .006*side])))
        black[:, :n] = wall == 'l'; black[:, -n:] |= wall == 'r'
        art[black & (art == 0)] = 0
    elif kind == 'scratch':
        for _ in range(r.integers(1, 4)):
            p, q = r.integers(0, [w, h], (2, 2))
            cv2.line(art, tuple(map(int, p)), tuple(map(int, q)), float(r.uniform(.3, 1)), max(1, int(.003*side)))
    elif kind == 'bridge':
        at = (letters if r.random() < .5 else tape)((.07, .3))
        if at: bridge(at)
    elif kind == 'black strip':
        n = int(r.choice([1, 2, 3, max(1, .01*side)]))
        black[:, :n] = wall == 'l'; black[:, -n:] |= wall == 'r'
    elif kind == 'glow': # along the chest wall above and below the breast
        edge(wall, True)
    elif kind == 'many':
        edge(), edge(), letters(), tape()
    out = np.where(black, art, np.maximum(im, art))
    back = r.choice([0, 0, .02, .06])
    if back: out = np.maximum(out, back + .25*back*r.standard_normal(im.shape) + back*r.random()*np.linspace(-.3, .3, w))
    drawn = (art > 0) | black
    return np.clip(out, 0, 1).astype(np.float32), drawn
