#!/usr/bin/env bash
# Bring something to the cluster:  slurm/transfer.sh --site NAME [options] WHAT [FOLDER or FILES]
#
#   transfer.sh --site asuka code mine.yaml           the project's own files, which git knows, the site's profile and mine.yaml
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
# Of the project's folder nothing else goes: what stays is listed. Paths and ids of women (private/ beside prepared images) never leave. A file .may-not-leave in FOLDER lists more, a pattern of
# rsync a line (* for all). Nothing is deleted at the other end. Other ways to connect: RSYNC_RSH='ssh -p 2222'.
set -euo pipefail
# shellcheck source=slurm/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

site='' tries=10 no_check='' dry_run=''
options 'site= tries= no-check dry-run' "$@"
shift "$taken"
what=${1:-} folder=${2:-}

own_files() { # the project's files: what git knows and is there, separated by NUL; nothing of a folder private
    git -C "$root" rev-parse --git-dir >/dev/null 2>&1 || die "code: $root is no clone, so nobody can say what belongs to it; git clone it, or: git init && git add what may go"
    (cd "$root" && git ls-files -z | while IFS= read -r -d '' file; do if [[ /$file != */private/* && ( -e $file || -L $file ) ]]; then printf '%s\0' "$file"; fi; done)
}

named_file() { # FILE: its place in the project, for the profile and for what was named
    local file
    file=$(cd "$(dirname "$1")" 2>/dev/null && printf '%s/%s' "$(pwd -P)" "$(basename "$1")") || die "$1: no such file"
    [[ -f $file && ! -L $file ]] || die "$1: a settings or mapping file is wanted here; folders go by 'cache' or 'archive'"
    [[ $file == "$(cd "$root" && pwd -P)"/* && /$file/ != */private/* ]] || die "$1: lies outside $root, or in a folder private: copy it beside the code first, if it may leave"
    printf '%s' "${file#"$(cd "$root" && pwd -P)"/}"
}

choose_files() { # [FILE...]: writes the list of what goes into `list`, says what stays
    local file stays
    list=$(mktemp)
    trap 'rm -f "$list"' EXIT
    own_files >"$list" || exit 2
    file=$site
    [[ $site == */* ]] || file=$root/slurm/sites/$site.env
    for file in "$file" "$root"/constraints-torch-*.txt "$@"; do
        # a profile may lie elsewhere: it stays where it is
        if [[ $file == "$site" && $(cd "$(dirname "$file")" && pwd -P) != "$(cd "$root" && pwd -P)"* ]]; then continue; fi
        file=$(named_file "$file") || exit 2
        grep -qzxF -- "$file" "$list" || printf '%s\0' "$file" >>"$list"
    done
    stays=$(cd "$root" && git ls-files -z --others --directory | grep -zvxFf <(tr '\0' '\n' <"$list") | grep -zvE '(^|/)(__pycache__|\.ipynb_checkpoints|\.[a-z_]*cache|\.hypothesis|[^/]*\.egg-info)/$' | tr '\0' '\n' || true)
    if [[ -n $stays ]]; then say "stays here, for git does not know it and it was not named:"; printf '  %s\n' "${stays//$'\n'/$'\n'  }"; fi
}

places() { # sets `from`, `to` and `rules`
    rules=(--exclude=.rsync-partial/ --exclude=private/)
    case $what in
        code)
            from=$root to=$SITE_FOLDER
            choose_files "${@:2}"
            rules=(--from0 --files-from="$list") ;;
        wheelhouse)
            from=${folder:-wheelhouse} to=$SITE_FOLDER/wheelhouse
            rules=(--include='/*.whl' --include=/SHA256SUMS --include='/*.txt' --exclude='*') ;;
        cache | archive)
            [[ -n $folder ]] || die "$what: give its folder; $me --help shows examples"
            [[ -d $folder ]] || die "$folder: no such folder"
            from=$folder to=$SITE_DATA/$(basename "$(cd "$folder" && pwd)")
            named "$what" "$(basename "$to")" ;;
        *) die "'$what': say code, cache, archive or wheelhouse; $me --help shows examples" ;;
    esac
    [[ -d $from ]] || die "$from: no such folder"
    [[ $what != cache || -f $from/cache.json ]] || die "$from: no prepared images here (no cache.json): nlbs_prepare makes them"
    if [[ -f $from/.may-not-leave ]]; then rules+=(--exclude-from="$from/.may-not-leave"); fi
}

load_site "$site"
[[ $what == code ]] || (($# < 3)) || die "$what: one folder at a time, not also '$3'"
places "$@"
sync_to "$from/" "$to/"
