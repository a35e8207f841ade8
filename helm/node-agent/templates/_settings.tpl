{{/* node.yaml as it will stand in the home; prepare.sh adds where metrics are, since that is known in the pod alone. */}}
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
{{- with .Values.verdictDays }}{{- $_ := set $document "verdictDays" (int64 .) }}{{- end -}}
{{- if and .Values.metrics.enabled .Values.metrics.tls.existingSecret -}}
{{- $_ := set $document "metricsCertificate" "/run/concord/web.pem" -}}
{{- $_ := set $document "metricsKey" "/run/concord/web.key" -}}
{{- end -}}
node.yaml: |
  # Written by the chart at each start of the pod; change its values instead.
  {{- toYaml $document | nindent 2 }}
{{- end -}}

{{/* Makes whole numbers of a mapping what they are: Helm reads 1000000 as a fraction and would write 1e+06, which is no count. */}}
{{- define "concord.whole" -}}
{{- $map := . -}}
{{- range $key, $value := $map -}}
{{- if kindIs "map" $value -}}
{{- include "concord.whole" $value -}}
{{- else if kindIs "slice" $value -}}
{{- $items := list -}}
{{- range $value -}}
{{- if kindIs "map" . }}{{ include "concord.whole" . }}{{ end -}}
{{- if and (kindIs "float64" .) (eq (toString (floor .)) (toString .)) -}}
{{- $items = append $items (int64 .) -}}
{{- else -}}
{{- $items = append $items . -}}
{{- end -}}
{{- end -}}
{{- $_ := set $map $key $items -}}
{{- else if and (kindIs "float64" $value) (eq (toString (floor $value)) (toString $value)) (lt $value 9e15) -}}
{{- $_ := set $map $key (int64 $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* policy.yaml, and packs beside it. */}}
{{- define "concord.policy" -}}
{{- $own := deepCopy .Values.policy -}}
{{- $packs := deepCopy .Values.policyPacks -}}
{{- include "concord.whole" $own -}}
{{- include "concord.whole" $packs -}}
policy.yaml: |
  # Written by the chart at each start of the pod; change its values instead.
  {{- toYaml $own | nindent 2 }}
{{- range $name, $pack := $packs }}
{{ $name }}.yaml: |
  # Written by the chart at each start of the pod; change its values instead.
  {{- toYaml $pack | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Whether whoever answers for the policy has an object of their own. */}}
{{- define "concord.policyElsewhere" -}}
{{- if or .Values.policyFrom.existingConfigMap .Values.policyFrom.existingSecret }}true{{ end -}}
{{- end -}}

{{/* What the agent's container and the test of the sandbox may do: nothing more than others, or make namespaces, too. */}}
{{- define "concord.agentSecurity" -}}
{{ include "concord.containerSecurity" . }}
{{- if eq .Values.sandbox.mode "bubblewrap" }}
# A new /proc for the worker can be mounted only where the pod's own is whole; which asks for a user namespace of the pod.
procMount: Unmasked
seccompProfile:
  type: Localhost
  localhostProfile: {{ .Values.sandbox.seccompProfile | quote }}
{{- with .Values.sandbox.appArmorProfile }}
appArmorProfile:
  {{- if eq . "Unconfined" }}
  type: Unconfined
  {{- else }}
  type: Localhost
  localhostProfile: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "concord.proxy" -}}
{{- with .Values.proxy.existingSecret }}
- name: https_proxy
  valueFrom:
    secretKeyRef: {name: {{ . | quote }}, key: {{ $.Values.proxy.key | quote }}}
{{- end }}
{{- end -}}
