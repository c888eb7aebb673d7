"""Statistics and metrics of pods and containers.

- stats_rpcs: ContainerStats, PodSandboxStats and their lists
- metrics: ListMetricDescriptors, ListPodSandboxMetrics
- stats_reading: decides when the runtime and storage workers read, and keeps the readings in memory

The floor: above `kernel.front.context` and `kernel.front.memory`; only `kernel.front.rpcs` uses it.
"""
