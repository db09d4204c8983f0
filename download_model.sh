#!/bin/sh
# Downloads a model of DeepSeek V4 Flash, for those who know the script of this name; `ds4 pull` does the work.
set -eu

usage() {
  cat <<'EOF'
usage: ./download_model.sh MODEL [--token TOKEN]

  q2-imatrix   V4 Flash, experts in 2 bits chosen with an importance matrix: 87 GB, for 96 GB of memory and more
  q4-imatrix   V4 Flash, experts in 4 bits chosen with an importance matrix: 165 GB, for 256 GB of memory and more
  q2, q4       the same without the importance matrix
  mtp          drafting weights: 4 GB

The token is that of --token, HF_TOKEN, or ~/.cache/huggingface/token. Files go to ./gguf (DS4_GGUF_DIR says otherwise), and
./ds4flash.gguf becomes a link to the model, except for mtp. The same command goes on with a download that was interrupted.
EOF
}

fail() {
  printf 'download_model.sh: %s\n' "$1" >&2
  exit 1
}

root=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
model=
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help | help)
      usage
      exit 0
      ;;
    --token)
      [ $# -ge 2 ] || fail "--token needs a value"
      # Not as an argument, which others on this machine could read.
      export HF_TOKEN="$2"
      shift
      ;;
    q2 | q4 | q2-imatrix | q4-imatrix | mtp) model=$1 ;;
    *)
      usage >&2
      fail "unknown model or option: $1"
      ;;
  esac
  shift
done
if [ -z "$model" ]; then
  usage >&2
  exit 1
fi

dir=${DS4_GGUF_DIR:-gguf}
case $dir in
  /*) ;;
  *) dir=$root/$dir ;;
esac

for ds4 in "$root/ds4" "$root/target/release/ds4" "$(command -v ds4 || true)"; do
  if [ -f "$ds4" ] && [ -x "$ds4" ]; then
    exec "$ds4" pull "$model" --dir "$dir" --link "$root/ds4flash.gguf"
  fi
done
fail "there is no ds4 here, in target/release or in PATH; cargo build --release makes it"
