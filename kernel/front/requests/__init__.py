"""Requests of the CRI, checked and translated: CRI in, contracts out. Nothing here waits, and nothing touches the host.

A message of the CRI is checked in one module; each of its fields is named there in the CRI's spelling.

- pod_config: PodSandboxConfig, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, DNSConfig, PortMapping
- sysctls: LinuxPodSandboxConfig.sysctls
- container_config: ContainerConfig, KeyValue
- container_security: LinuxContainerSecurityContext, Capability
- profiles: SecurityProfile (seccomp, apparmor), the deprecated profile paths, SELinuxOption
- identity: run_as_user, run_as_group and supplemental_groups of both security contexts
- namespaces: NamespaceOption.network, pid, ipc and target_id
- user_namespaces: NamespaceOption.userns_options (UserNamespace, IDMapping), Mount.uidMappings and gidMappings
- resources: LinuxContainerResources, HugepageLimit
- mounts: Mount, Device, CDIDevice
- stop_signal: Signal
- image_spec: ImageSpec, AuthConfig
- fields: checks of single values, which all of these use
- keys: the keys by which a repeated RunPodSandbox or CreateContainer is recognised
- states: the state that a container or a pod must have for a request

Requests with few fields (ExecRequest, CheckpointContainerRequest, ...) are checked in the module of their RPC. The
floor: pure, below `kernel.front.responses` and `kernel.front.memory`; only contracts, formats and ids are below it.
"""
