"""Signatures of images as they are found. Nothing here verifies them: that is storage's part.

collected       the signatures of one image, up to the limits
cosign          cosign's, in the image's own repository
lookaside       simple signing's, in a lookaside store
registries_d    containers-registries.d(5): the places of an image's signatures
search          all signatures of an image

Floor: above `registry` and `endpoints`; beside `pull`. `search` uses the others, `cosign` and `lookaside` use
`collected`.
"""
