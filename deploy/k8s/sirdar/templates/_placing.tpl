{{/* Where a pod runs, and what is mounted into it. */}}

{{- define "sirdar.scheduling" -}}
{{- $own := index .root.Values .tier -}}
{{- $gpu := dig "gpu" "enabled" false $own -}}
{{- $tolerations := $own.tolerations -}}
{{- if $gpu }}{{ $tolerations = concat $tolerations $own.gpu.tolerations }}{{ end -}}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: {{ $own.spread }}
    labelSelector:
      matchLabels:
        {{- include "sirdar.selector" $ | nindent 8 }}
    # Pods of the version that goes do not count.
    matchLabelKeys: [{{ ternary "controller-revision-hash" "pod-template-hash" (eq $.tier "retriever") }}]
  {{- end }}
{{- with $own.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- if and $gpu $own.gpu.runtimeClassName }}
runtimeClassName: {{ $own.gpu.runtimeClassName }}
{{- end }}
{{- with $own.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "sirdar.mounts" -}}
- {name: config, mountPath: /etc/sirdar/config, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- if .root.Values.tls.enabled }}
- {name: tls, mountPath: /etc/sirdar/tls, readOnly: true}
{{- end }}
{{- if and (eq .tier "gateway") .root.Values.gateway.tls.enabled }}
- {name: caller-tls, mountPath: /etc/sirdar/caller-tls, readOnly: true}
{{- if .root.Values.gateway.tls.clientCaSecretName }}
- {name: caller-ca, mountPath: /etc/sirdar/caller-ca, readOnly: true}
{{- end }}
{{- end }}
{{- if has .tier (list "embedder" "reranker") }}
- {name: models, mountPath: /var/cache/sirdar}
{{- end }}
{{- if eq .tier "retriever" }}
- {name: data, mountPath: /var/lib/sirdar}
{{- end }}
{{- end -}}

{{- define "sirdar.volumes" -}}
{{- $own := index .root.Values .tier -}}
- name: config
  configMap: {name: {{ include "sirdar.fullname" .root }}-{{ .tier }}}
- name: tmp
  emptyDir: {sizeLimit: 2Gi}
{{- if .root.Values.tls.enabled }}
- name: tls
  secret: {secretName: {{ include "sirdar.tlsSecret" . }}, defaultMode: 0440}
{{- end }}
{{- if and (eq .tier "gateway") .root.Values.gateway.tls.enabled }}
- name: caller-tls
  secret: {secretName: {{ include "sirdar.callerTlsSecret" .root }}, defaultMode: 0440}
{{- with .root.Values.gateway.tls.clientCaSecretName }}
- name: caller-ca
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    # The authority's key, where it is in the same secret, stays out.
    items: [{key: ca.crt, path: ca.crt}]
{{- end }}
{{- end }}
{{- with $own.modelCache }}
- name: models
  {{- if eq .kind "ephemeral" }}
  emptyDir: {sizeLimit: {{ .size }}}
  {{- else }}
  persistentVolumeClaim:
    claimName: {{ .existingClaim | default (printf "%s-%s-models" (include "sirdar.fullname" $.root) $.tier) }}
  {{- end }}
{{- end }}
{{- end -}}
