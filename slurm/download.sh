#!/usr/bin/env bash
# Bring runs back from the cluster:  slurm/download.sh --site NAME [options] RUN...
#
#   download.sh --site asuka first                results/first, without its checkpoints
#   download.sh --site asuka --checkpoints first  with them: to go on with the run here
#   download.sh --site asuka --private first      with what shows or names real women, which otherwise stays there
#
#   --site NAME      profile in slurm/sites/, or a file: host, user, folders
#   --checkpoints    the checkpoints too (they are most of a run's size; the finished model comes anyway)
#   --private        also private/ (paths, messages in full), galleries/private/ (real images and reconstructions of them), features
#                    and latents of real images, a report that shows real images (one made with --public comes anyway), and SLURM's
#                    logs, which name nodes and folders
#   --to DIR         folder for the runs (default: results)
#   --tries N        attempts when the connection breaks (default: 10); each goes on in the middle of a file
#   --no-check       leave out the second pass, which compares checksums at both ends
#   --dry-run        say what would be copied
#   --help           this
#
# A run that is still running may be fetched at any time, and again later. Nothing is deleted here.
set -euo pipefail
# shellcheck source=slurm/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

site='' to=results tries=10 checkpoints='' private='' no_check='' dry_run=''
options 'site= to= tries= checkpoints private no-check dry-run' "$@"
shift "$taken"
(($#)) || die "give the name of a run; $me --help shows examples"
rules=(--exclude=/lock.json --exclude=/stop --exclude='.*.tmp' --exclude=.rsync-partial/)
if [[ -z $checkpoints ]]; then rules+=(--exclude=/checkpoints/); fi
if [[ -z $private ]]; then # a folder's file .private lists what stays; the sheets of older runs lie beside the samples
    rules+=(--exclude=private/ --exclude='/logs/*.out' --exclude=/metrics/features/ --exclude='latents_*.npz' --filter=':- .private')
    for name in originals reconstructions findings; do rules+=(--exclude="/galleries/*/$name.png"); done
fi
for run in "$@"; do named run "$run"; done

load_site "$site"
for run in "$@"; do
    mkdir -p "$to"
    sync_from "$SITE_FOLDER/results/$run/" "$to/$run/"
    if [[ -z $private ]]; then say "left there: what shows or names real women; --private fetches it too"; fi
done
