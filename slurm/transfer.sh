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

site_name='' tries=10 check=yes dry=''
while [[ ${1:-} == --* ]]; do
    case $1 in
        --help) usage; exit 0 ;;
        --no-check) check=''; shift; continue ;;
        --dry-run) dry=yes; shift; continue ;;
    esac
    need "$@"
    case $1 in
        --site) site_name=$2 ;;
        --tries) tries=$2 ;;
        *) unknown "$1" ;;
    esac
    shift 2
done
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

load_site "$site_name"
places
sync_to "$from/" "$to/"
