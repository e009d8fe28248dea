{{/* Names, labels, ports and addresses. */}}

{{- define "sirdar.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "sirdar.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "sirdar.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What never changes of a tier's objects: takes (dict "root" $ "tier" "gateway"). */}}
{{- define "sirdar.selector" -}}
app.kubernetes.io/name: {{ include "sirdar.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .tier }}
{{- end -}}

{{- define "sirdar.labels" -}}
{{ include "sirdar.selector" . }}
app.kubernetes.io/part-of: sirdar
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The name and labels of an object of a tier; `suffix` is put behind the name. */}}
{{- define "sirdar.metadata" -}}
name: {{ include "sirdar.fullname" .root }}-{{ .tier }}{{ .suffix | default "" }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "sirdar.labels" . | nindent 2 }}
{{- end -}}

{{/* The tiers that run, as a JSON list. */}}
{{- define "sirdar.tiers" -}}
{{- $tiers := list "gateway" "embedder" "retriever" -}}
{{- if .Values.reranker.enabled }}{{ $tiers = append $tiers "reranker" }}{{ end -}}
{{- toJson $tiers -}}
{{- end -}}

{{- define "sirdar.port" -}}
{{- get (dict "gateway" "7700" "embedder" "7701" "retriever" "7702" "reranker" "7703") . -}}
{{- end -}}

{{- define "sirdar.metricsPort" -}}
{{- get (dict "gateway" "7790" "embedder" "7791" "retriever" "7792" "reranker" "7793") . -}}
{{- end -}}

{{/* Whether the tier's own port wants TLS; "true" or nothing. */}}
{{- define "sirdar.servesTls" -}}
{{- if eq .tier "gateway" -}}
{{- if .root.Values.gateway.tls.enabled }}true{{ end -}}
{{- else if .root.Values.tls.enabled -}}true
{{- end -}}
{{- end -}}

{{/* Where a kubelet asks: with TLS at a port without, since its probes know none. */}}
{{- define "sirdar.probePort" -}}
{{- if include "sirdar.servesTls" . }}7709{{ else }}{{ include "sirdar.port" .tier }}{{ end -}}
{{- end -}}

{{- define "sirdar.host" -}}
{{- printf "%s-%s.%s.svc.%s" (include "sirdar.fullname" .root) .tier .root.Release.Namespace .root.Values.clusterDomain -}}
{{- end -}}

{{- define "sirdar.address" -}}
{{- printf "%s:%s" (include "sirdar.host" .) (include "sirdar.port" .tier) -}}
{{- end -}}

{{/* Where documents are kept: `sqlite`, `postgresql` of the chart's own, or a `secret` that says it.
Values of a chart before this one name no PostgreSQL. */}}
{{- define "sirdar.store" -}}
{{- $postgresql := default dict .Values.postgresql -}}
{{- if dig "inChart" "enabled" false $postgresql -}}postgresql
{{- else if dig "existingSecret" "name" "" $postgresql -}}secret
{{- else -}}sqlite
{{- end -}}
{{- end -}}

{{/* What the PostgreSQL of the chart takes. */}}
{{- define "sirdar.postgresqlConnections" -}}300{{- end -}}

{{/* How many retrievers there may be. */}}
{{- define "sirdar.mostRetrievers" -}}
{{- $own := .Values.retriever -}}
{{- $scaling := default (dict "kind" "none") $own.autoscaling -}}
{{- if eq $scaling.kind "none" }}{{ $own.replicas }}{{ else }}{{ $scaling.maxReplicas }}{{ end -}}
{{- end -}}

{{- define "sirdar.image" -}}
{{- $own := index .root.Values .tier -}}
{{- $image := .root.Values.image -}}
{{- $name := printf "%s-%s" $image.prefix .tier -}}
{{- if $image.registry }}{{ $name = printf "%s/%s" $image.registry $name }}{{ end -}}
{{- if $own.digest -}}
{{- printf "%s@%s" $name $own.digest -}}
{{- else -}}
{{- $cuda := dig "gpu" "enabled" false $own -}}
{{- printf "%s:%s%s" $name (default .root.Chart.AppVersion $image.tag) (ternary "-cuda" "" $cuda) -}}
{{- end -}}
{{- end -}}

{{/* The secret with a tier's certificate for mutual TLS. */}}
{{- define "sirdar.tlsSecret" -}}
{{- if .root.Values.tls.certManager.enabled -}}
{{- printf "%s-%s-tls" (include "sirdar.fullname" .root) .tier -}}
{{- else -}}
{{- index .root.Values.tls.secretNames .tier -}}
{{- end -}}
{{- end -}}

{{/* The secret with the certificate that the gateway shows its callers. */}}
{{- define "sirdar.callerTlsSecret" -}}
{{- default (printf "%s-gateway-callers-tls" (include "sirdar.fullname" .)) .Values.gateway.tls.secretName -}}
{{- end -}}

{{/* The hub models of a tier, as a JSON list of NAME@REVISION. */}}
{{- define "sirdar.hubModels" -}}
{{- $own := index .root.Values .tier -}}
{{- $named := $own.model -}}
{{- if $own.modelRevision }}{{ $named = printf "%s@%s" $own.model $own.modelRevision }}{{ end -}}
{{- $found := list -}}
{{- range concat (list $named) (default list $own.models) -}}
{{- if not (regexMatch "^(package:|path:|builtin:|/|\\.)" .) }}{{ $found = append $found . }}{{ end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}
