{{/* The pod of a tier: takes (dict "root" $ "tier" "gateway"). */}}

{{- define "sirdar.module" -}}
{{- ternary "gateway" (printf "services.%s" .) (eq . "gateway") -}}
{{- end -}}

{{- define "sirdar.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "sirdar.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Changes when the configuration does, and, where the cluster can be asked, a secret. */}}
{{- define "sirdar.checksums" -}}
checksum/config: {{ include "sirdar.config" . | sha256sum }}
{{- $contents := list -}}
{{- range include "sirdar.secrets" . | fromJsonArray -}}
{{- $secret := lookup "v1" "Secret" $.root.Release.Namespace . -}}
{{- $contents = append $contents (dig "data" dict (default dict $secret)) -}}
{{- end }}
checksum/secrets: {{ toJson $contents | sha256sum }}
{{- end -}}

{{/* The names of the secrets that a tier reads from its environment, as a JSON list. TLS is not
among them: cert-manager changes it, and it is mounted. */}}
{{- define "sirdar.secrets" -}}
{{- $values := .root.Values -}}
{{- $names := list -}}
{{- if and (eq .tier "gateway") $values.redis.existingSecret.name }}{{ $names = append $names $values.redis.existingSecret.name }}{{ end -}}
{{- if and (has .tier (list "embedder" "reranker")) $values.hub.tokenSecret.name }}{{ $names = append $names $values.hub.tokenSecret.name }}{{ end -}}
{{- if and (eq .tier "retriever") $values.retriever.snapshots.credentialsSecretName }}{{ $names = append $names $values.retriever.snapshots.credentialsSecretName }}{{ end -}}
{{- if eq .tier "retriever" -}}
{{- $store := include "sirdar.store" .root -}}
{{- if eq $store "secret" }}{{ $names = append $names $values.postgresql.existingSecret.name }}{{ end -}}
{{- if eq $store "postgresql" }}{{ $names = append $names $values.postgresql.inChart.passwordSecret.name }}{{ end -}}
{{- end -}}
{{- toJson $names -}}
{{- end -}}

{{- define "sirdar.podTemplate" -}}
{{- $own := index .root.Values .tier -}}
metadata:
  # Not the chart's version: a new one of it alone would restart all pods.
  labels:
    {{- include "sirdar.selector" . | nindent 4 }}
    app.kubernetes.io/part-of: sirdar
    {{- with .root.Values.commonLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with $own.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    {{- include "sirdar.checksums" . | nindent 4 }}
    {{- if or .root.Values.tls.enabled (include "sirdar.servesTls" .) }}
    {{- if .root.Values.tls.reloader }}
    reloader.stakater.com/auto: "true"
    {{- end }}
    {{- end }}
    {{- with $own.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "sirdar.fullname" .root }}-{{ .tier }}
  automountServiceAccountToken: false
  # A service SIRDAR-GATEWAY would set SIRDAR_GATEWAY_PORT, which is a setting.
  enableServiceLinks: false
  {{- with .root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  securityContext:
    {{- include "sirdar.podSecurity" . | nindent 4 }}
  # After preStop: the drain, and what a process may take to close its files and threads.
  terminationGracePeriodSeconds: {{ add $own.drain.preStopSeconds (ceil (addf $own.drain.noticeSeconds $own.drain.graceSeconds)) (ternary 30 10 (eq .tier "retriever")) }}
  {{- include "sirdar.scheduling" . | nindent 2 }}
  {{- include "sirdar.prefetch" . | nindent 2 }}
  containers:
    - name: {{ .tier }}
      image: {{ include "sirdar.image" . }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: [python, -m, {{ include "sirdar.module" .tier }}]
      securityContext:
        {{- include "sirdar.containerSecurity" . | nindent 8 }}
      env:
        {{- include "sirdar.env" . | nindent 8 }}
      {{- if and (eq .tier "retriever") .root.Values.retriever.snapshots.credentialsSecretName }}
      envFrom:
        - secretRef: {name: {{ .root.Values.retriever.snapshots.credentialsSecretName }}}
      {{- end }}
      ports:
        - {name: grpc, containerPort: {{ include "sirdar.port" .tier }}}
        {{- if eq .tier "gateway" }}
        - {name: http, containerPort: 7780}
        {{- end }}
        - {name: metrics, containerPort: {{ include "sirdar.metricsPort" .tier }}}
        {{- if include "sirdar.servesTls" . }}
        - {name: health, containerPort: {{ include "sirdar.probePort" . }}}
        {{- end }}
      {{- include "sirdar.probes" . | nindent 6 }}
      {{- if $own.drain.preStopSeconds }}
      lifecycle:
        preStop:
          sleep: {seconds: {{ $own.drain.preStopSeconds }}}
      {{- end }}
      resources:
        {{- include "sirdar.resources" . | nindent 8 }}
      volumeMounts:
        {{- include "sirdar.mounts" . | nindent 8 }}
  volumes:
    {{- include "sirdar.volumes" . | nindent 4 }}
{{- end -}}

{{- define "sirdar.probes" -}}
{{- $own := index .root.Values .tier -}}
{{- $port := include "sirdar.probePort" . -}}
startupProbe:
  grpc: {port: {{ $port }}}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: {{ divf $own.startupSeconds 2 | ceil }}
readinessProbe:
  grpc: {port: {{ $port }}}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
# Not whether it serves, but whether its work makes progress: see `stuck_seconds`.
livenessProbe:
  grpc: {port: {{ $port }}, service: liveness}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}

{{- define "sirdar.env" -}}
{{- $values := .root.Values -}}
- name: SIRDAR_{{ upper .tier }}_CONFIG_FILE
  value: /etc/sirdar/config/{{ .tier }}.toml
{{- if has .tier (list "embedder" "reranker") }}
- name: HF_HOME
  value: /var/cache/sirdar/hub
{{- with $values.hub.endpoint }}
- name: HF_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- if and .init $values.hub.tokenSecret.name }}
- name: HF_TOKEN
  valueFrom:
    secretKeyRef: {name: {{ $values.hub.tokenSecret.name }}, key: {{ $values.hub.tokenSecret.key }}}
{{- else if or .init (not (index $values .tier).prefetch) }}
{{- with $values.hub.tokenSecret.name }}
- name: HF_TOKEN
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: {{ $values.hub.tokenSecret.key }}}
{{- end }}
{{- else }}
- name: HF_HUB_OFFLINE
  value: "1"
{{- end }}
{{- end }}
{{- if and (eq .tier "gateway") $values.redis.existingSecret.name }}
- name: SIRDAR_GATEWAY_CACHE_URL
  valueFrom:
    secretKeyRef: {name: {{ $values.redis.existingSecret.name }}, key: {{ $values.redis.existingSecret.key }}}
{{- end }}
{{- if eq .tier "retriever" }}
{{- $store := include "sirdar.store" .root }}
{{- if eq $store "secret" }}
- name: SIRDAR_RETRIEVER_STORE
  valueFrom:
    secretKeyRef: {name: {{ $values.postgresql.existingSecret.name }}, key: {{ $values.postgresql.existingSecret.key }}}
{{- else if eq $store "postgresql" }}
- name: PGPASSWORD
  valueFrom:
    secretKeyRef: {name: {{ $values.postgresql.inChart.passwordSecret.name }}, key: {{ $values.postgresql.inChart.passwordSecret.key }}}
{{- end }}
{{- end }}
{{- with (index $values .tier).extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "sirdar.resources" -}}
{{- $own := index .root.Values .tier -}}
{{- $resources := deepCopy $own.resources -}}
{{- if dig "gpu" "enabled" false $own -}}
{{- $limits := set (default dict $resources.limits) $own.gpu.resource $own.gpu.count -}}
{{- $resources = set $resources "limits" $limits -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* Hub models are there before the server starts, which then needs no hub. */}}
{{- define "sirdar.prefetch" -}}
{{- $own := index .root.Values .tier -}}
{{- if and (hasKey $own "prefetch") $own.prefetch -}}
{{- $models := include "sirdar.hubModels" . | fromJsonArray -}}
{{- if $models -}}
initContainers:
  - name: fetch-models
    image: {{ include "sirdar.image" . }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    args: {{ concat (list "python" "-m" "services.inference.fetch") $models | toJson }}
    securityContext:
      {{- include "sirdar.containerSecurity" . | nindent 6 }}
    env:
      {{- include "sirdar.env" (merge (dict "init" true) .) | nindent 6 }}
    resources:
      requests: {cpu: 100m, memory: 512Mi}
      limits: {cpu: "1", memory: 1Gi}
    volumeMounts:
      {{- include "sirdar.mounts" . | nindent 6 }}
{{- end -}}
{{- end -}}
{{- end -}}
