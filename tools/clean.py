"Git's clean filter for a notebook, standard input to output: nbdev's own (nbdev_clean --stdin) writes nothing in 2.4.14."
import json, sys
from execnb.nbio import nb2str
from nbdev.clean import clean_nb
from nbdev.config import get_config

nb, cfg = json.load(sys.stdin), get_config()
clean_nb(nb, allowed_metadata_keys=cfg.allowed_metadata_keys.split(),
         allowed_cell_metadata_keys=cfg.allowed_cell_metadata_keys.split(), clean_ids=cfg.clean_ids)
sys.stdout.write(nb2str(nb))
