"""Decides whether the node's policy accepts an image. Above `confined`, beside `layers` and `checkpoints`.

- gate: policy and keys, a child if signatures are required, and the answers that are remembered
- policy: policy.json (pure)
- identity: the names in a signature that count for an image (pure)
- payload: the document that is signed (pure)
- verdict: a child: verifies signatures
- sequoia: OpenPGP, in that child
- sigstore: cosign's keys, in that child
"""
