"""The storage worker: layers, root file systems, and verdicts about images' signatures. README.md draws its floors.

- methods: the table of all bus methods; what concerns everything on the host
- layer_methods, container_methods, checkpoint_methods: the methods of each noun
- roots: root file systems
- layers: unpacked layers
- checkpoints: the files of checkpoints
- trust: verdicts about images' signatures
- tar: tars, and the children that read them
- trees: folders in which every name is a container's or an image's
- confined: privileges that children drop, and their answers
"""
