#!/usr/bin/env bash
# Bring something to the cluster:  slurm/transfer.sh --site NAME [options] WHAT [FOLDER]
#
#   transfer.sh --site asuka code                     the project, without environment, data, runs
#   transfer.sh --site asuka cache data/nlbs-cache-256    prepared images: all that training needs
#   transfer.sh --site asuka archive data/nlbs        the archive itself (NLBS: 390 GB)
#   transfer.sh --site asuka wheelhouse               what setup.sh --offline installs
#
#   --site NAME      profile in slurm/sites/, or a file: host, user, folders
#   --tries N        attempts when the connection breaks (default: 10); each goes on in the middle of a file
#   --no-check       leave out the second pass, which compares checksums at both ends
#   --dry-run        say what would be copied
#   --help           this
#
# Paths and ids of women (private/ beside prepared images) never leave. A file .may-not-leave in FOLDER lists more, a pattern of
# rsync a line (* for all). Nothing is deleted at the other end. Other ways to connect: RSYNC_RSH='ssh -p 2222'.
set -euo pipefail
# shellcheck source=slurm/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

site='' tries=10 no_check='' dry_run=''
options 'site= tries= no-check dry-run' "$@"
shift "$taken"
what=${1:-} folder=${2:-}

places() { # sets `from`, `to` and `rules`
    rules=(--exclude=.rsync-partial/ --exclude=private/)
    case $what in
        code)
            from=${folder:-$root} to=$SITE_FOLDER
            rules+=(--exclude=.git/ --exclude=/.venv --exclude=/data --exclude=/results --exclude=/wheelhouse --exclude=/nbs/data/
                --exclude=/nbs/results/ --exclude=__pycache__/ --exclude=.ipynb_checkpoints/ --exclude=.pytest_cache/ --exclude=.hypothesis/
                --exclude='*.egg-info/' --exclude='*.sif') ;;
        wheelhouse) from=${folder:-wheelhouse} to=$SITE_FOLDER/wheelhouse ;;
        cache | archive)
            [[ -n $folder ]] || die "$what: give its folder; $me --help shows examples"
            from=$folder to=$SITE_DATA/$(basename "$folder") ;;
        *) die "'$what': say code, cache, archive or wheelhouse; $me --help shows examples" ;;
    esac
    [[ -d $from ]] || die "$from: no such folder"
    [[ $what != cache || -f $from/cache.json ]] || die "$from: no prepared images here (no cache.json): nlbs_prepare makes them"
    if [[ -f $from/.may-not-leave ]]; then rules+=(--exclude-from="$from/.may-not-leave"); fi
}

load_site "$site"
places
sync_to "$from/" "$to/"
