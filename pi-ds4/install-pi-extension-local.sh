#!/bin/sh
# Links this extension into Pi, and a checkout of ds4 to where the extension looks for models and a built program.
set -eu

usage() {
  cat <<'EOF'
Usage: install-pi-extension-local.sh [--force] CHECKOUT

Links ~/.pi/agent/extensions/pi-ds4 to the folder of this script, and ~/.pi/ds4/support to CHECKOUT, a checkout of ds4.

  --force   if support is something else, take its models (gguf/*.gguf, *.gguf.part, and their *.gguf.origin) into CHECKOUT,
            without overwriting any, and move the rest aside to support.backup.TIME

$PI_CODING_AGENT_DIR and $DS4_DIR stand for ~/.pi/agent and ~/.pi/ds4 if they are set.
EOF
}

fail() {
  printf 'install-pi-extension-local.sh: %s\n' "$1" >&2
  exit "${2:-1}"
}

# The folder that a path leads to, without links.
real() {
  (CDPATH='' cd -- "$1" 2>/dev/null && pwd -P)
}

exists() {
  [ -e "$1" ] || [ -L "$1" ]
}

force=no
checkout=
for argument in "$@"; do
  case $argument in
    --force) force=yes ;;
    -h | --help)
      usage
      exit 0
      ;;
    -*) fail "unknown option $argument; --help lists them" 2 ;;
    *)
      [ -z "$checkout" ] || fail "one checkout only, not $checkout and $argument" 2
      checkout=$argument
      ;;
  esac
done
[ -n "$checkout" ] || fail "which checkout of ds4? --help shows how to call this" 2

here=$(real "$(dirname -- "$0")")
target=$(real "$checkout") || fail "$checkout is not a folder"
[ -f "$target/Cargo.toml" ] && [ -d "$target/crates/cli" ] || fail "$checkout is not a ds4 checkout: no Cargo.toml and crates/cli in it"
state=${DS4_DIR:-$HOME/.pi/ds4}
support=$state/support
extensions=${PI_CODING_AGENT_DIR:-$HOME/.pi/agent}/extensions
extension=$extensions/pi-ds4

# Everything that can be refused, before anything is changed.
if exists "$extension" && [ ! -L "$extension" ] && [ "$(real "$extension")" != "$here" ]; then
  fail "$extension is another extension, not a link: move it away first"
fi
if exists "$support" && [ "$(real "$support" || true)" != "$target" ] && [ "$force" = no ]; then
  fail "$support is $(real "$support" || echo "a link to nowhere"), not $target; --force takes its models over and moves it aside"
fi

# A model, or the beginning of one, of which nothing is there yet: a second name for it where that can be, which costs
# nothing, else a copy, made aside. What is still being written is copied in any case. With it comes where its download came
# from (.origin), which it needs to go on.
carry() {
  name=$(basename -- "$1")
  model=$target/gguf/${name%.part}
  if exists "$model" || exists "$model.part"; then
    echo "left $name: $model is there, or its beginning"
    return
  fi
  how="took over"
  case $name in
    *.part) copy "$1" ;;
    *) { [ ! -L "$1" ] && ln -- "$1" "$model" 2>/dev/null; } || copy "$1" ;;
  esac
  rm -f -- "$model.origin"
  [ ! -f "${1%.part}.origin" ] || cp -- "${1%.part}.origin" "$model.origin"
  echo "$how $name"
}

copy() {
  how=copied
  trap 'rm -f -- "$target/gguf/$name.copying"' EXIT
  # Copies that share their blocks: of APFS, then of Linux; then plain ones.
  cp -c -- "$1" "$target/gguf/$name.copying" 2>/dev/null ||
    cp --reflink=auto -- "$1" "$target/gguf/$name.copying" 2>/dev/null ||
    cp -- "$1" "$target/gguf/$name.copying" || fail "$1 cannot be copied to $target/gguf"
  mv -- "$target/gguf/$name.copying" "$target/gguf/$name"
  trap - EXIT
}

if exists "$support" && [ "$(real "$support" || true)" != "$target" ]; then
  for file in "$support"/gguf/*.gguf "$support"/gguf/*.gguf.part; do
    [ -f "$file" ] || continue
    mkdir -p -- "$target/gguf"
    carry "$file"
  done
  backup=$support.backup.$(date +%Y%m%d%H%M%S)
  while exists "$backup"; do backup=$backup+; done
  mv -- "$support" "$backup"
  echo "moved the old $support to $backup"
fi

mkdir -p -- "$state" "$extensions"
exists "$support" || ln -s -- "$target" "$support"
if [ -L "$extension" ] && [ "$(real "$extension" || true)" != "$here" ]; then
  rm -- "$extension"
fi
exists "$extension" || ln -s -- "$here" "$extension"
echo "$extension -> $here"
echo "$support -> $target"
echo "Start pi again, or /reload in one that runs."
