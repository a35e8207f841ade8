#!/bin/sh
# Makes the coordinator's home before it starts; run by the pod's first container, and by tests/images. It changes nothing that is there.
#
#   CONCORD_COORDINATOR_HOME        the home, a folder of the volume
#   CONCORD_COORDINATOR_FEDERATION  the federation's name
#   CONCORD_COORDINATOR_LISTEN
#   GIVEN   a folder (the mounted Secret) with the keys and settings of a home that was made elsewhere; unset: keys are made here
#   WEB     a folder (the mounted Secret) with tls.crt and tls.key, with which metrics are served; unset: plainly
#   MEMORY  a folder in memory, for what GIVEN and WEB hold: mounted Secrets are open to their group, and the service refuses such keys
set -eu
umask 077
home="$CONCORD_COORDINATOR_HOME"

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
  for name in keys/ca.key keys/release.key keys/log.key ca.pem coordinator.yaml; do
    file="$GIVEN/${name#keys/}"
    [ -s "$file" ] || refuse "The Secret with the keys has no ${name#keys/}." "Put all five files in: see docs/how-to/kubernetes.md."
    install -m 0600 "$file" "$home/$name"
  done
elif [ ! -e "$home/coordinator.yaml" ]; then
  concord-coordinator init --home "$home" --federation "$CONCORD_COORDINATOR_FEDERATION" \
    --listen "$CONCORD_COORDINATOR_LISTEN" --metrics ""
elif [ -L "$home/keys" ]; then
  refuse "The keys of $home were given by a Secret, and none is given now." "Set keys.existingSecret again."
fi
if [ -n "${WEB:-}" ]; then
  for name in tls.crt tls.key; do
    [ -s "$WEB/$name" ] || refuse "The Secret of metrics.tls.existingSecret has no $name." "Put tls.crt and tls.key in: see docs/how-to/kubernetes.md."
  done
  install -m 0600 "$WEB/tls.crt" "$MEMORY/web.pem"
  install -m 0600 "$WEB/tls.key" "$MEMORY/web.key"
fi
# A volume that was moved may come back with its files open to the group; the service refuses such keys.
chmod go-rwx "$home"/keys/*
