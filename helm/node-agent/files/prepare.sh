#!/bin/sh
# Makes the node's home before the agent starts, and enters the federation once; run by the pod's first container, and by tests/images.
#
#   CONCORD_NODE_HOME  the home, a folder of the volume
#   FEDERATION, MEMBER, NODE
#   SETTINGS  a folder with node.yaml, which replaces the home's at each start
#   POLICY    a folder with policy.yaml and, beside it, packs (NAME.yaml), which replace the home's, too; unset: SETTINGS
#   UNSANDBOXED  "accepted" where the policy may say sandbox: optional
#   METRICS   host:port for /metrics; empty: none
#   WEB       a folder (the mounted Secret) with tls.crt and tls.key, with which they are served; unset: plainly
#   TICKET    a folder (the mounted Secret) with ticket.json, credential.json and perhaps roll.json; without it none was given
#   GIVEN     a folder (the mounted Secret) with the keys of a home that was made elsewhere; unset: keys are made here
#   MEMORY    a folder in memory, for what GIVEN and WEB hold: mounted Secrets are open to their group, and the agent refuses such keys
set -eu
umask 077
home="$CONCORD_NODE_HOME"

refuse() {
  echo "error: $1" >&2
  echo "  what to do: $2" >&2
  exit 2
}

mkdir -p "$home"
if [ -n "${GIVEN:-}" ]; then
  if [ -d "$home/keys" ] && [ ! -L "$home/keys" ]; then
    refuse "$home/keys holds keys on the volume, and a Secret with keys is given, too." \
      "Leave keys.existingSecret empty, or move the keys into the Secret and that folder away."
  fi
  mkdir -p "$MEMORY/keys"
  ln -sfn "$MEMORY/keys" "$home/keys"
  for name in identity.key transport.key catalogue.key; do
    [ -s "$GIVEN/$name" ] || refuse "The Secret with the keys has no $name." "Put all three keys in: see docs/how-to/kubernetes.md."
    install -m 0600 "$GIVEN/$name" "$home/keys/$name"
  done
elif [ -L "$home/keys" ]; then
  refuse "The keys of $home were given by a Secret, and none is given now." "Set keys.existingSecret again."
fi

if [ ! -e "$home/node.yaml" ]; then
  concord-node init --home "$home" --federation "$FEDERATION" --member "$MEMBER" --node "$NODE" --out "$home/request.json"
fi
# A volume that was moved may come back with its files open to the group; the agent refuses such keys.
chmod go-rwx "$home"/keys/*

# What is read here is refused here, and not job by job.
policy="${POLICY:-$SETTINGS}"
python3 "$(dirname "$0")/policy.py" "$policy" "${UNSANDBOXED:-}" || exit 2

if [ -n "${WEB:-}" ]; then
  for name in tls.crt tls.key; do
    [ -s "$WEB/$name" ] || refuse "The Secret of metrics.tls.existingSecret has no $name." "Put tls.crt and tls.key in: see docs/how-to/kubernetes.md."
  done
  install -m 0600 "$WEB/tls.crt" "$MEMORY/web.pem"
  install -m 0600 "$WEB/tls.key" "$MEMORY/web.key"
fi

if [ ! -e "$home/transport.pem" ]; then
  if [ ! -s "${TICKET:-/nowhere}/ticket.json" ]; then
    cat "$home/request.json" && echo
    refuse "This node has not joined its federation yet." \
      "Have the member's officer sign the request above, get a ticket, and set join.existingSecret: see docs/how-to/kubernetes.md."
  fi
  # A mounted Secret can be read by its group, and the agent refuses such a ticket.
  private="$(mktemp -d)"
  trap 'rm -rf "$private"' EXIT
  install -m 0600 "$TICKET/ticket.json" "$private/ticket.json"
  set -- --ticket "$private/ticket.json" --credential "$TICKET/credential.json"
  if [ -s "$TICKET/roll.json" ]; then
    set -- "$@" --roll "$TICKET/roll.json"
  fi
  concord-node join --home "$home" "$@"
fi

{ cat "$SETTINGS/node.yaml"; printf 'metrics: "%s"\n' "${METRICS:-}"; } > "$home/.node.yaml.new"
mv "$home/.node.yaml.new" "$home/node.yaml"
install -m 0600 "$policy/policy.yaml" "$home/policy.yaml"
# The packs that are given, and no others: one that is gone is missed by the node, which then denies every job.
mkdir -p "$home/policy.d"
for file in "$home"/policy.d/*.yaml "$home"/policy.d/*.yml; do
  [ ! -e "$file" ] || [ -e "$policy/${file##*/}" ] || rm "$file"
done
for file in "$policy"/*.yaml; do
  case "${file##*/}" in
    policy.yaml | node.yaml) ;;
    *) install -m 0600 "$file" "$home/policy.d/${file##*/}" ;;
  esac
done
