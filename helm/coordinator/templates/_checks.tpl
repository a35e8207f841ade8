{{/* What a coordinator's chart refuses, and a schema cannot say. Each refusal is the value's path, one sentence, and a hint. */}}
{{- define "concord.checks" -}}
{{- $values := .Values -}}
{{- if not $values.federation -}}
{{- fail "federation: it is empty. Name the federation: --set federation=atlas" -}}
{{- end -}}
{{- include "concord.checkCommon" . -}}
{{- include "concord.checkDatabase" . -}}
{{- include "concord.checkService" . -}}
{{- if and $values.metrics.enabled (eq (int $values.metrics.port) 7443) -}}
{{- fail "metrics.port: 7443 is the port of the members in the pod. Choose another, such as 9464." -}}
{{- end -}}
{{- if and $values.networkPolicy.clients (not $values.networkPolicy.enabled) -}}
{{- fail "networkPolicy.clients: without a NetworkPolicy it keeps nobody out. Set networkPolicy.enabled to true, or leave this empty." -}}
{{- end -}}
{{- end -}}

{{- define "concord.checkDatabase" -}}
{{- $values := .Values -}}
{{- if eq $values.database.engine "postgresql" -}}
{{- if not $values.database.existingSecret -}}
{{- fail "database.existingSecret: engine postgresql needs the Secret that holds the URL. Make one with the key url, and name it here." -}}
{{- end -}}
{{- if and $values.networkPolicy.enabled (not $values.database.cidrs) -}}
{{- fail "database.cidrs: it is empty, so the NetworkPolicy would keep the coordinator from PostgreSQL. Name the server's addresses." -}}
{{- end -}}
{{- range $values.database.cidrs -}}
{{- include "concord.checkWidth" (dict "path" "database.cidrs" "cidr" . "sentence" "lets the coordinator reach nearly everything" "hint" "Name the server's addresses alone, such as 192.0.2.10/32") -}}
{{- end -}}
{{- else -}}
{{- range $name := list "existingSecret" "caKey" -}}
{{- if index $values.database $name -}}
{{- fail (printf "database.%s: it is not used with engine sqlite. Set database.engine to postgresql, or leave it empty." $name) -}}
{{- end -}}
{{- end -}}
{{- if $values.database.cidrs -}}
{{- fail "database.cidrs: with engine sqlite the coordinator dials nobody. Set database.engine to postgresql, or leave it empty." -}}
{{- end -}}
{{- if or (ne (int $values.database.port) 5432) (ne $values.database.key "url") -}}
{{- fail (printf "database.%s: it is not used with engine sqlite. Set database.engine to postgresql, or leave it as it is." (ternary "key" "port" (ne $values.database.key "url"))) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "concord.checkService" -}}
{{- $service := .Values.service -}}
{{- if and $service.nodePort (ne $service.type "NodePort") -}}
{{- fail (printf "service.nodePort: service.type is %s. Set it to NodePort, or leave nodePort 0." $service.type) -}}
{{- end -}}
{{- if and $service.loadBalancerSourceRanges (ne $service.type "LoadBalancer") -}}
{{- fail (printf "service.loadBalancerSourceRanges: service.type is %s. Set it to LoadBalancer, or use networkPolicy.clients." $service.type) -}}
{{- end -}}
{{- if and $service.externalTrafficPolicy (eq $service.type "ClusterIP") -}}
{{- fail "service.externalTrafficPolicy: service.type is ClusterIP, which nobody outside reaches. Set it to LoadBalancer or NodePort, or leave this empty." -}}
{{- end -}}
{{- end -}}
