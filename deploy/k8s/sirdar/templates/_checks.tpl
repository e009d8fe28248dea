{{/* Values that contradict each other, all of them at once, each with the fix. */}}
{{- define "sirdar.checks" -}}
{{- $faults := concat
  (include "sirdar.checks.retriever" . | fromJsonArray)
  (include "sirdar.checks.store" . | fromJsonArray)
  (include "sirdar.checks.models" . | fromJsonArray)
  (include "sirdar.checks.replicas" . | fromJsonArray)
  (include "sirdar.checks.tls" . | fromJsonArray)
  (include "sirdar.checks.outside" . | fromJsonArray)
-}}
{{- if $faults }}{{ fail (printf "\n%s" (join "\n" $faults)) }}{{ end -}}
{{- end -}}

{{- define "sirdar.checks.retriever" -}}
{{- $own := .Values.retriever -}}
{{- $faults := list -}}
{{- if eq (include "sirdar.store" .) "sqlite" -}}
{{- if gt (int $own.replicas) 1 -}}
{{- $faults = append $faults (printf "retriever.replicas: is %d, but documents are kept in SQLite, which one retriever owns; several need PostgreSQL: set postgresql.existingSecret.name, or replicas to 1" (int $own.replicas)) -}}
{{- end -}}
{{- if ne (dig "kind" "none" (default dict $own.autoscaling)) "none" -}}
{{- $faults = append $faults "retriever.autoscaling: documents are kept in SQLite, which one retriever owns; several need PostgreSQL: set postgresql.existingSecret.name, or kind to none" -}}
{{- end -}}
{{- else -}}
{{- $scaling := $own.autoscaling -}}
{{- $fewest := ternary $own.replicas $scaling.minReplicas (eq $scaling.kind "none") -}}
{{- if gt (int $own.replication) (int $fewest) -}}
{{- $faults = append $faults (printf "retriever.replication: is %d, but there may be only %d of them: set it to %d, or retriever.%s to %d" (int $own.replication) (int $fewest) (int $fewest) (ternary "replicas" "autoscaling.minReplicas" (eq $scaling.kind "none")) (int $own.replication)) -}}
{{- end -}}
{{- end -}}
{{- if and $own.snapshots.credentialsSecretName (not $own.snapshots.url) -}}
{{- $faults = append $faults "retriever.snapshots.credentialsSecretName: there are credentials, but no retriever.snapshots.url" -}}
{{- end -}}
{{- toJson $faults -}}
{{- end -}}

{{- define "sirdar.checks.store" -}}
{{- $postgresql := default dict .Values.postgresql -}}
{{- $faults := list -}}
{{- if dig "inChart" "enabled" false $postgresql -}}
{{- if dig "existingSecret" "name" "" $postgresql -}}
{{- $faults = append $faults "postgresql: inChart.enabled and existingSecret.name exclude each other" -}}
{{- end -}}
{{- if not (dig "inChart" "passwordSecret" "name" "" $postgresql) -}}
{{- $faults = append $faults "postgresql.inChart.passwordSecret.name: name a secret with a password for it" -}}
{{- end -}}
{{- $connections := dig "store_connections" 16 .Values.retriever.settings | int | add 2 -}}
{{- $retrievers := include "sirdar.mostRetrievers" . | int -}}
{{- $most := include "sirdar.postgresqlConnections" . | int -}}
{{- /* Three are kept for its superuser. */ -}}
{{- if gt (mul $retrievers $connections | int) (sub $most 3 | int) -}}
{{- $faults = append $faults (printf "retriever.settings.store_connections: %d retrievers with %d connections each, two of them beside these, are more than the %d of postgresql.inChart: set it to %d, or take a PostgreSQL of your own by postgresql.existingSecret.name" $retrievers $connections (sub $most 3) (max 2 (sub (div (sub $most 3) $retrievers) 2))) -}}
{{- end -}}
{{- else if dig "inChart" "passwordSecret" "name" "" $postgresql -}}
{{- $faults = append $faults "postgresql.inChart.passwordSecret.name: is set, but inChart.enabled is false" -}}
{{- end -}}
{{- toJson $faults -}}
{{- end -}}

{{- define "sirdar.checks.models" -}}
{{- $faults := list -}}
{{- range $tier := without (include "sirdar.tiers" . | fromJsonArray) "gateway" "retriever" -}}
{{- $own := index $.Values $tier -}}
{{- if $own.prefetch -}}
{{- range include "sirdar.hubModels" (dict "root" $ "tier" $tier) | fromJsonArray -}}
{{- if not (regexMatch "@[0-9a-f]{40}$" .) -}}
{{- $faults = append $faults (printf "%s: %s is fetched before the start, but not pinned: set modelRevision (or @ behind a name of models) to a commit of 40 hex digits, or %s.prefetch to false" $tier . $tier) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $own.modelRevision (regexMatch "^(package:|path:|builtin:|/|\\.)" $own.model) -}}
{{- $faults = append $faults (printf "%s.modelRevision: %s is no model of a hub, so it has no revision" $tier $own.model) -}}
{{- end -}}
{{- $cache := $own.modelCache -}}
{{- if and (eq $cache.kind "existingClaim") (not $cache.existingClaim) -}}
{{- $faults = append $faults (printf "%s.modelCache.existingClaim: name the claim, or set kind to another" $tier) -}}
{{- end -}}
{{- if and $cache.existingClaim (ne $cache.kind "existingClaim") -}}
{{- $faults = append $faults (printf "%s.modelCache.existingClaim: is named, but kind is %s: set it to existingClaim" $tier $cache.kind) -}}
{{- end -}}
{{- $several := or (gt (int $own.replicas) 1) (ne $own.autoscaling.kind "none") -}}
{{- if and (eq $cache.kind "claim") (eq $cache.accessMode "ReadWriteOnce") $several -}}
{{- $faults = append $faults (printf "%s.modelCache.accessMode: replicas on several nodes cannot share a claim that is ReadWriteOnce: set it to ReadWriteMany, or kind to ephemeral" $tier) -}}
{{- end -}}
{{- if and $own.gpu.enabled (has (dig "engine" "auto" $own.settings) (list "openvino" "onnx")) -}}
{{- $faults = append $faults (printf "%s.settings.engine: %s computes on the CPU, but gpu.enabled is true: set engine to torch or auto" $tier $own.settings.engine) -}}
{{- end -}}
{{- end -}}
{{- toJson $faults -}}
{{- end -}}

{{- define "sirdar.checks.replicas" -}}
{{- $faults := list -}}
{{- range $tier := include "sirdar.tiers" . | fromJsonArray -}}
{{- $scaling := default (dict "kind" "none") (index $.Values $tier).autoscaling -}}
{{- if ne $scaling.kind "none" -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{- $faults = append $faults (printf "%s.autoscaling: minReplicas is %d, maxReplicas only %d" $tier (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- end -}}
{{- if and (eq $scaling.kind "keda") (not $.Values.autoscaling.prometheusAddress) -}}
{{- $faults = append $faults (printf "autoscaling.prometheusAddress: %s.autoscaling asks Prometheus: say where it is" $tier) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $faults -}}
{{- end -}}

{{- define "sirdar.checks.tls" -}}
{{- $tls := .Values.tls -}}
{{- $callers := .Values.gateway.tls -}}
{{- $faults := list -}}
{{- if and $tls.enabled (not $tls.certManager.enabled) -}}
{{- range $tier := include "sirdar.tiers" . | fromJsonArray -}}
{{- if not (index $tls.secretNames $tier) -}}
{{- $faults = append $faults (printf "tls.secretNames.%s: name the secret with its certificate, or set tls.certManager.enabled" $tier) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $tls.certManager.enabled -}}
{{- if not $tls.certManager.issuer.name -}}
{{- $faults = append $faults "tls.certManager.issuer.name: name the issuer that signs the certificates" -}}
{{- end -}}
{{- if not (or $tls.enabled $callers.enabled) -}}
{{- $faults = append $faults "tls.certManager.enabled: there is nothing to issue: set tls.enabled or gateway.tls.enabled" -}}
{{- end -}}
{{- range $tier, $name := $tls.secretNames -}}
{{- if $name -}}
{{- $faults = append $faults (printf "tls.secretNames.%s: cert-manager issues the certificates: unset it, or tls.certManager.enabled" $tier) -}}
{{- end -}}
{{- end -}}
{{- if ge (trimSuffix "h" $tls.certManager.renewBefore | int) (trimSuffix "h" $tls.certManager.duration | int) -}}
{{- $faults = append $faults "tls.certManager.renewBefore: must be shorter than duration" -}}
{{- end -}}
{{- end -}}
{{- if and $callers.enabled (not $callers.secretName) (not $tls.certManager.enabled) -}}
{{- $faults = append $faults "gateway.tls.secretName: name the secret with the certificate that callers see, or set tls.certManager.enabled" -}}
{{- end -}}
{{- if and (or $callers.secretName $callers.clientCaSecretName) (not $callers.enabled) -}}
{{- $faults = append $faults "gateway.tls: a secret is named, but enabled is false" -}}
{{- end -}}
{{- toJson $faults -}}
{{- end -}}

{{- define "sirdar.checks.outside" -}}
{{- $faults := list -}}
{{- if and .Values.redis.inChart.enabled .Values.redis.existingSecret.name -}}
{{- $faults = append $faults "redis: inChart.enabled and existingSecret.name exclude each other" -}}
{{- end -}}
{{- range $name, $ingress := dict "ingress" .Values.ingress "grpcIngress" .Values.grpcIngress -}}
{{- if and $ingress.enabled (not $ingress.hosts) -}}
{{- $faults = append $faults (printf "%s.hosts: name the hosts that it answers for" $name) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled .Values.grpcIngress.enabled -}}
{{- range .Values.ingress.hosts -}}
{{- if has . $.Values.grpcIngress.hosts -}}
{{- $faults = append $faults (printf "grpcIngress.hosts: %s is also in ingress.hosts, and both answer for every path: give gRPC a host of its own" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $route := .Values.routes -}}
{{- if and $route.enabled (not $route.parentRefs) -}}
{{- $faults = append $faults (printf "routes.%s.parentRefs: name the Gateway that it is attached to" $name) -}}
{{- end -}}
{{- end -}}
{{- toJson $faults -}}
{{- end -}}
