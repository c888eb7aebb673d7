"""The storage worker: layers, root file systems and verdicts over images. Its README draws the floors.

- methods: the table of all bus methods; what concerns everything on the host
- layer_methods, container_methods, checkpoint_methods: the methods of each noun
- roots: root file systems
- layers: unpacked layers
- checkpoints: checkpoints as far as they are files
- trust: verdicts over images
- tar: tars, and the children that read them
- trees: hostile folders
- confined: what children give up, and how they answer
"""
