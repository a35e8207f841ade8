{{/* node.yaml and policy.yaml, as they will stand in the home. */}}
{{- define "concord.settings" -}}
{{- $sets := dict -}}
{{- range $name, $held := .Values.dataSets -}}
{{- $set := dict "path" (printf "/data/%s" $name) "examples" (int64 $held.examples) "tags" ($held.tags | default list) -}}
{{- with $held.privacyBudget }}{{- $_ := set $set "privacyBudget" . }}{{- end }}
{{- with $held.description }}{{- $_ := set $set "description" . }}{{- end }}
{{- $_ := set $sets $name $set -}}
{{- end -}}
{{- $document := dict "federation" .Values.federation "member" .Values.member "node" .Values.node "address" .Values.coordinator.address -}}
{{- $_ := set $document "dataSets" $sets -}}
{{- $_ := set $document "consent" .Values.consent -}}
{{- $_ := set $document "deciders" .Values.deciders -}}
{{- $_ := set $document "witnessSeconds" .Values.witnessSeconds -}}
{{- with .Values.leaseSeconds }}{{- $_ := set $document "leaseSeconds" . }}{{- end -}}
node.yaml: |
  # Written by the chart at each start of the pod; change its values instead.
  {{- toYaml $document | nindent 2 }}
policy.yaml: |
  # Written by the chart at each start of the pod; change its values instead.
  {{- toYaml .Values.policy | nindent 2 }}
{{- end -}}

{{/* What the agent's container and the test of the sandbox may do: nothing more than others, or make namespaces, too. */}}
{{- define "concord.agentSecurity" -}}
{{ include "concord.containerSecurity" . }}
{{- if eq .Values.sandbox.mode "bubblewrap" }}
# A new /proc for the worker can be mounted only where the pod's own is whole; which asks for a user namespace of the pod.
procMount: Unmasked
seccompProfile:
  type: Localhost
  localhostProfile: {{ .Values.sandbox.seccompProfile }}
{{- with .Values.sandbox.appArmorProfile }}
appArmorProfile:
  {{- if eq . "Unconfined" }}
  type: Unconfined
  {{- else }}
  type: Localhost
  localhostProfile: {{ . }}
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "concord.proxy" -}}
{{- with .Values.proxy.existingSecret }}
- name: https_proxy
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: {{ $.Values.proxy.key }}}
{{- end }}
{{- end -}}
