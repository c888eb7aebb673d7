"""The verbs of a pod, one a module; each calls only those below it. They stand above `containers`.

run       RunPodSandbox
remove    RemovePodSandbox, and the undoing of a failed run
stop      StopPodSandbox, and the steps that a removal shares with it
"""
