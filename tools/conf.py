"Sphinx reads this for tools/docs.py. Nothing in a page is fetched from elsewhere: own fonts, formulas as MathML."
from docutils import nodes
from latex2mathml.converter import convert

project, author, language = 'NLBS-CVAE', 'The NLBS-CVAE authors', 'en'
extensions = ['myst_parser', 'sphinx.ext.githubpages']
myst_enable_extensions = ['colon_fence', 'dollarmath', 'attrs_inline']
myst_heading_anchors = 4
highlight_language = 'none' # what a cell printed; code says what it is
html_theme, html_title, html_copy_source, html_show_sphinx, html_show_copyright = 'furo', project, False, False, False
html_static_path, html_css_files = ['static'], ['docs.css']
html_theme_options = dict(source_repository='https://github.com/nlbs-cvae/nlbs-cvae', source_branch='main', source_directory='nbs/',
                          top_of_page_buttons=[]) # a page is a notebook's: its Markdown isn't in the repository
toc_object_entries_show_parents = 'hide'

def formula(self, node, block):
    "A formula becomes MathML, which browsers draw by themselves."
    self.body.append(convert(node.astext(), display='block' if block else 'inline'))
    raise nodes.SkipNode

def setup(app):
    app.add_html_math_renderer('mathml', (lambda s, n: formula(s, n, False), None), (lambda s, n: formula(s, n, True), None))
    app.config.html_math_renderer = 'mathml'
