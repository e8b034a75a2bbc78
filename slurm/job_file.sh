#!/usr/bin/env bash
# Print a site's own training job file, for those who like plain sbatch:
#   slurm/job_file.sh asuka > slurm/train_asuka.slurm
# It is train.slurm with the header that the site's profile gives; a test holds the two together.
set -euo pipefail
# shellcheck source=slurm/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
if [[ ${1:-} == --help ]]; then usage; exit 0; fi
[[ -n ${1:-} ]] || die "give a site; $me --help shows an example"

load_site "$1"
more=''
for option in account:"$SITE_ACCOUNT" qos:"$SITE_QOS" mail-user:"$SITE_MAIL" mail-type:"${SITE_MAIL:+END,FAIL,REQUEUE}"; do
    [[ -z ${option#*:} ]] || more+="#SBATCH --${option%%:*}=${option#*:}\\n"
done
sed -e "s|^\(#SBATCH --job-name=\).*|\1$SITE_JOB|" -e "s|^\(#SBATCH --partition=\).*|\1$SITE_PARTITION|" \
    -e "s|^\(#SBATCH --gres=gpu:\).*|\1$SITE_GPUS|" -e "s|^\(#SBATCH --cpus-per-task=\).*|\1$SITE_CPUS|" \
    -e "s|^\(#SBATCH --mem=\).*|\1$SITE_MEM|" -e "s|^\(#SBATCH --time=\).*|\1$SITE_TIME|" \
    -e "s|^#SBATCH --signal|$more&|" -e "s|slurm/train.slurm CONFIG|slurm/train_$site.slurm CONFIG|" \
    -e "s|^begin_job|export NLBS_SITE=\${NLBS_SITE:-$site}\\n&|" "$root/slurm/train.slurm"
