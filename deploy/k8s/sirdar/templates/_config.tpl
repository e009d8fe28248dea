{{/* A tier's settings as TOML: what the chart decides, then the values' own. JSON's strings,
numbers, booleans and lists are TOML's. */}}
{{- define "sirdar.config" -}}
{{- $values := .root.Values -}}
{{- $own := index $values .tier -}}
{{- $settings := dict
  "host" "0.0.0.0"
  "port" (include "sirdar.port" .tier | int)
  "metrics_port" (include "sirdar.metricsPort" .tier | int)
  "log_format" "json"
  "log_level" $values.logLevel
  "drain_notice_seconds" $own.drain.noticeSeconds
  "drain_grace_seconds" $own.drain.graceSeconds
-}}
{{- if include "sirdar.servesTls" . -}}
{{- $folder := ternary "/etc/sirdar/caller-tls" "/etc/sirdar/tls" (eq .tier "gateway") -}}
{{- $_ := set $settings "health_port" (include "sirdar.probePort" . | int) -}}
{{- $_ := set $settings "tls_certificate_file" (printf "%s/tls.crt" $folder) -}}
{{- $_ := set $settings "tls_key_file" (printf "%s/tls.key" $folder) -}}
{{- if ne .tier "gateway" -}}
{{- $_ := set $settings "tls_client_ca_file" (printf "%s/ca.crt" $folder) -}}
{{- else if $values.gateway.tls.clientCaSecretName -}}
{{- $_ := set $settings "tls_client_ca_file" "/etc/sirdar/caller-ca/ca.crt" -}}
{{- end -}}
{{- end -}}
{{- $settings = merge (include (printf "sirdar.config.%s" .tier) . | fromJson) $settings (deepCopy $own.settings) -}}
{{- range $name := keys $settings | sortAlpha }}
{{ $name }} = {{ index $settings $name | toJson }}
{{- end }}
{{- end -}}

{{- define "sirdar.config.gateway" -}}
{{- $values := .root.Values -}}
{{- $settings := dict
  "http_port" 7780
  "embedder_address" (include "sirdar.address" (dict "root" .root "tier" "embedder"))
  "retriever_addresses" (include "sirdar.retrieverAddresses" .root | fromJsonArray)
-}}
{{- if $values.reranker.enabled -}}
{{- $_ := set $settings "reranker_address" (include "sirdar.address" (dict "root" .root "tier" "reranker")) -}}
{{- end -}}
{{- if $values.tls.enabled -}}
{{- $_ := set $settings "tier_ca_file" "/etc/sirdar/tls/ca.crt" -}}
{{- $_ := set $settings "tier_certificate_file" "/etc/sirdar/tls/tls.crt" -}}
{{- $_ := set $settings "tier_key_file" "/etc/sirdar/tls/tls.key" -}}
{{- end -}}
{{- if $values.redis.inChart.enabled -}}
{{- $_ := set $settings "cache_url" (printf "redis://%s-redis.%s.svc.%s:6379/0" (include "sirdar.fullname" .root) .root.Release.Namespace $values.clusterDomain) -}}
{{- end -}}
{{- toJson $settings -}}
{{- end -}}

{{/* Of several, each pod's own: the gateway chooses by what each has. */}}
{{- define "sirdar.retrieverAddresses" -}}
{{- $address := include "sirdar.address" (dict "root" . "tier" "retriever") -}}
{{- $addresses := list -}}
{{- if eq (include "sirdar.store" .) "sqlite" -}}
{{- $addresses = list $address -}}
{{- else -}}
{{- range $number := include "sirdar.mostRetrievers" . | int | until -}}
{{- $addresses = append $addresses (printf "%s-retriever-%d.%s" (include "sirdar.fullname" $) $number $address) -}}
{{- end -}}
{{- end -}}
{{- toJson $addresses -}}
{{- end -}}

{{- define "sirdar.config.embedder" -}}
{{- $own := .root.Values.embedder -}}
{{- dict "model" $own.model "model_revision" $own.modelRevision "models" $own.models "cache_folder" "/var/cache/sirdar/models" | toJson -}}
{{- end -}}

{{- define "sirdar.config.reranker" -}}
{{- $own := .root.Values.reranker -}}
{{- dict "model" $own.model "model_revision" $own.modelRevision "cache_folder" "/var/cache/sirdar/models" | toJson -}}
{{- end -}}

{{- define "sirdar.config.retriever" -}}
{{- $snapshots := .root.Values.retriever.snapshots -}}
{{- $settings := dict "data_folder" "/var/lib/sirdar/retriever" -}}
{{- $store := include "sirdar.store" .root -}}
{{- if ne $store "sqlite" -}}
{{- /* Its name is its host's, which is the pod's. */ -}}
{{- $_ := set $settings "replication" .root.Values.retriever.replication -}}
{{- $_ := set $settings "store_schema" .root.Values.postgresql.schema -}}
{{- $_ := set $settings "store_cluster" (printf "%s/%s" .root.Release.Namespace (include "sirdar.fullname" .root)) -}}
{{- end -}}
{{- if eq $store "postgresql" -}}
{{- /* Its password is in PGPASSWORD. */ -}}
{{- $_ := set $settings "store" (printf "postgresql://sirdar@%s:5432/sirdar" (include "sirdar.host" (dict "root" .root "tier" "postgresql"))) -}}
{{- end -}}
{{- if $snapshots.url -}}
{{- $_ := set $settings "snapshot_url" $snapshots.url -}}
{{- if $snapshots.intervalSeconds -}}
{{- $_ := set $settings "snapshot_interval_seconds" $snapshots.intervalSeconds -}}
{{- end -}}
{{- end -}}
{{- toJson $settings -}}
{{- end -}}
