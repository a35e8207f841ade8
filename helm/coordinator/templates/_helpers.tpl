{{- define "concord.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "concord.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "concord.labels" -}}
{{ include "concord.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: concord
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{- define "concord.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ printf "%s@%s" .repository .digest | quote }}
{{- else -}}
{{ printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) | quote }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Every container of every pod, but for the agent that makes sandboxes. */}}
{{- define "concord.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
{{- end -}}

{{- define "concord.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
# Always would open the private keys on the volume to the group at each start, and the service refuses such keys.
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "concord.placement" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . | quote }}
{{- end }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Releases of one chart spread, not only the one pod of each. */}}
{{- define "concord.spread" -}}
{{- with .Values.topologySpreadConstraints }}
topologySpreadConstraints:
{{- range . }}
  - {{- toYaml . | nindent 4 }}
    labelSelector:
      matchLabels:
        app.kubernetes.io/name: {{ $.Chart.Name }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Egress rules to the cluster's DNS. */}}
{{- define "concord.dns" -}}
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ .namespace | quote }}
      podSelector:
        matchLabels:
          {{- toYaml .podLabels | nindent 10 }}
    {{- range .cidrs }}
    - ipBlock:
        cidr: {{ . | quote }}
    {{- end }}
  ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end -}}

{{/* Whether the pod needs a folder in memory, for keys that a Secret brings. */}}
{{- define "concord.inMemory" -}}
{{- if or .Values.keys.existingSecret .Values.metrics.tls.existingSecret }}true{{ end -}}
{{- end -}}

{{- define "concord.metricsService" -}}
{{ include "concord.fullname" . }}{{ if eq .Chart.Name "concord-coordinator" }}-pod{{ end }}
{{- end -}}

{{/* The name of the Service behind which the metrics are, as a certificate and a scraper name it. */}}
{{- define "concord.metricsName" -}}
{{- .Values.metrics.tls.serverName | default (printf "%s.%s.svc" (include "concord.metricsService" .) .Release.Namespace) -}}
{{- end -}}

{{/* One way of asking the kubelet's probes of /healthz or /readyz. */}}
{{- define "concord.ask" -}}
{path: {{ .path }}, port: metrics{{ if .root.Values.metrics.tls.existingSecret }}, scheme: HTTPS{{ end }}}
{{- end -}}

{{/* A quantity as a number. */}}
{{- define "concord.amount" -}}
{{- $text := toString . -}}
{{- $units := dict "" 1.0 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 -}}
{{- $unit := regexFind "[A-Za-z]+$" $text -}}
{{- mulf (float64 (trimSuffix $unit $text)) (index $units $unit) -}}
{{- end -}}
