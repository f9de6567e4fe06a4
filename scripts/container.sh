#!/usr/bin/env bash
# Builds the Dockerfile, starts the image and asks the running server for its definitions: `make image` runs it.
# With a Docker or Podman engine it uses that. Without one (a machine that is itself a container) it builds with
# buildah in a chroot, on a Debian base made by debootstrap under the name that FROM asks for; that needs root.
set -euo pipefail
cd "$(dirname "$0")/.."

image=${IMAGE:-localhost/refold:latest}
base=docker.io/library/debian:bookworm-slim
host_authorities=/usr/local/share/ca-certificates
tries=60
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT

as_root() { if [[ $(id -u) == 0 ]]; then "$@"; else sudo "$@"; fi; }
say() { printf '+ %s\n' "$*"; }

# What is asked of the running server; the arguments are how to run a command beside it.
ask_server() {
  local try
  for ((try = 1; ; try++)); do
    "$@" dagster api grpc-health-check -p 4000 >/dev/null 2>&1 && break
    ((try < tries)) || { echo "Expected the code server to answer on port 4000, found nothing after $try tries." >&2; return 1; }
    sleep 1
  done
  say "the server answers; its assets:"
  "$@" dagster-graphql --grpc-host 127.0.0.1 --grpc-port 4000 --text '{ assetNodes { assetKey { path } } }' | tee "$answer"
  grep -q '"path"' "$answer" || { echo "Expected the server to list assets, found none." >&2; return 1; }
}

with_engine() {
  local engine=$1 container
  say "$engine build"
  "$engine" build -t "$image" .
  container=$("$engine" run --detach "$image")
  # shellcheck disable=SC2064  # the names as they are now
  trap "$engine rm --force $container >/dev/null; rm -f $answer" EXIT
  ask_server "$engine" exec "$container"
}

make_base() {
  local root
  buildah inspect --type image "$base" >/dev/null 2>&1 && return
  say "debootstrap $base"
  root=$(mktemp -d)
  debootstrap --variant=minbase bookworm "$root" >"$root.log" 2>&1 || { tail -n 20 "$root.log" >&2; return 1; }
  local holder
  holder=$(buildah from scratch)
  buildah add -q "$holder" "$root" / >/dev/null
  buildah config --cmd bash "$holder"
  buildah commit -q "$holder" "$base" >/dev/null
  buildah rm "$holder" >/dev/null
  rm -rf "$root" "$root.log"
}

without_engine() {
  local missing=() tool holder server
  [[ $(id -u) == 0 ]] || { echo "Expected a Docker or Podman engine, or root to build without one; found neither." >&2; return 1; }
  for tool in buildah debootstrap; do command -v "$tool" >/dev/null || missing+=("$tool"); done
  if ((${#missing[@]})); then
    say "apt-get install ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
  fi
  make_base
  local options=(--isolation=chroot --network=host)
  # A proxy with an authority of its own stands between some machines and the registries: the image trusts what the
  # host trusts, so an image built this way is for trying, not for shipping.
  if [[ -f /etc/ssl/certs/ca-certificates.crt ]]; then
    options+=(--volume "/etc/ssl/certs/ca-certificates.crt:$host_authorities/host.crt:ro")
  fi
  say "buildah build"
  buildah build "${options[@]}" --pull=never --format docker -t "$image" .
  holder=$(buildah from --pull=never "$image")
  mapfile -t command < <(buildah inspect --type image --format '{{range .OCIv1.Config.Cmd}}{{println .}}{{end}}' "$image" | sed '/^$/d')
  say "run: ${command[*]}"
  # In a session of its own, so that its whole process group can be ended by its number.
  setsid buildah run --isolation=chroot --network=host "$holder" -- "${command[@]}" &
  server=$!
  # shellcheck disable=SC2064  # the names as they are now
  trap "say 'stopping the server'; kill -TERM -- -$server || true; wait $server || true; buildah rm $holder >/dev/null; rm -f $answer" EXIT
  ask_server buildah run --isolation=chroot --network=host "$holder" --
}

if docker info >/dev/null 2>&1; then
  with_engine docker
elif podman info >/dev/null 2>&1 && [[ $(id -u) != 0 || -d /run/systemd/system ]]; then
  with_engine podman
else
  without_engine
fi
say "$image works"
