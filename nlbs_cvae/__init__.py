__version__ = "0.2.0"

import os
# How long a thread waits awake, before torch reads it; measured in nbs/04b_learner.ipynb
if 'OMP_WAIT_POLICY' not in os.environ: os.environ.setdefault('GOMP_SPINCOUNT', '1000')
