{{/* What a schema cannot say. Each refusal is the value's path, one sentence, and a hint. */}}
{{- define "concord.checks" -}}
{{- $values := .Values -}}
{{- if not $values.federation -}}
{{- fail "federation: it is empty. Name the federation: --set federation=atlas" -}}
{{- end -}}
{{- if not $values.image.repository -}}
{{- fail "image.repository: it is empty. Build the image (docs/how-to/images.md), push it, and name it here." -}}
{{- end -}}
{{- if ne $values.metrics.service.type "ClusterIP" -}}
{{- fail (printf "metrics.service.type: %s would publish /metrics without TLS. Leave ClusterIP, and let metrics.from say who scrapes." $values.metrics.service.type) -}}
{{- end -}}
{{- if and $values.metrics.enabled (not $values.networkPolicy.enabled) -}}
{{- fail "networkPolicy.enabled: without it the whole cluster reads /metrics, which has no TLS. Leave it true, or set metrics.enabled to false." -}}
{{- end -}}
{{- range $kind := list "serviceMonitor" "prometheusRule" "dashboards" -}}
{{- if and (index $values.metrics $kind).enabled (not $values.metrics.enabled) -}}
{{- fail (printf "metrics.%s.enabled: there are no metrics when metrics.enabled is false. Set both to true, or neither." $kind) -}}
{{- end -}}
{{- end -}}
{{- if and $values.metrics.serviceMonitor.enabled (not $values.metrics.from) -}}
{{- fail "metrics.from: it is empty, so the NetworkPolicy would keep Prometheus out. Say where Prometheus runs, with a namespaceSelector for example." -}}
{{- end -}}
{{- range $values.metrics.from -}}
{{- with (index . "ipBlock") -}}
{{- if hasSuffix "/0" .cidr -}}
{{- fail (printf "metrics.from: %s is everybody, and /metrics has no TLS. Name the scraper's own network." .cidr) -}}
{{- end -}}
{{- end -}}
{{- if and (hasKey . "namespaceSelector") (not .namespaceSelector) (not .podSelector) -}}
{{- fail "metrics.from: an empty namespaceSelector is the whole cluster, and /metrics has no TLS. Name the scraper's namespace." -}}
{{- end -}}
{{- end -}}
{{- if eq $values.database.engine "postgresql" -}}
{{- if not $values.database.existingSecret -}}
{{- fail "database.existingSecret: engine postgresql needs the Secret that holds the URL. Make one with the key url, and name it here." -}}
{{- end -}}
{{- if and $values.networkPolicy.enabled (not $values.database.cidrs) -}}
{{- fail "database.cidrs: it is empty, so the NetworkPolicy would keep the coordinator from PostgreSQL. Name the server's addresses." -}}
{{- end -}}
{{- else -}}
{{- if $values.database.existingSecret -}}
{{- fail "database.existingSecret: it is not used with engine sqlite. Set database.engine to postgresql, or leave it empty." -}}
{{- end -}}
{{- if $values.database.caKey -}}
{{- fail "database.caKey: it is not used with engine sqlite. Set database.engine to postgresql, or leave it empty." -}}
{{- end -}}
{{- if $values.database.cidrs -}}
{{- fail "database.cidrs: with engine sqlite the coordinator dials nobody. Set database.engine to postgresql, or leave it empty." -}}
{{- end -}}
{{- end -}}
{{- if and $values.storage.existingClaim $values.storage.storageClass -}}
{{- fail "storage.storageClass: the claim of storage.existingClaim has a class already. Give one of the two." -}}
{{- end -}}
{{- if and $values.service.nodePort (ne $values.service.type "NodePort") -}}
{{- fail (printf "service.nodePort: service.type is %s. Set it to NodePort, or leave nodePort 0." $values.service.type) -}}
{{- end -}}
{{- if and $values.service.loadBalancerSourceRanges (ne $values.service.type "LoadBalancer") -}}
{{- fail (printf "service.loadBalancerSourceRanges: service.type is %s. Set it to LoadBalancer, or use networkPolicy.clients." $values.service.type) -}}
{{- end -}}
{{- end -}}
