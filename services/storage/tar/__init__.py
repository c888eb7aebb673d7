"""Tars: read strictly, made into files, compared with files. Above `trees` and `confined`, below `layers`.

- reader: entries of a tar (pure)
- whiteout: the meaning of an entry in an overlay layer, and whether it is safe (pure)
- pipe_source: the tar as it comes out of a pipe
- skeleton: the tar without its files' contents, written and read again
- inflate: a child: decompresses a blob
- untar: a child: makes a layer's files
- parents, makers: its directories and its entries
- tally: its counts and notes (pure)
- verify: a child: compares a layer's files with its tar
"""
