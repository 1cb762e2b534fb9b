"""The corpus: every written case of an archive as an OCI image and as plain tar files, each with its expected tree.

Vectors are values (``tables.py``, ``silent.py``, ``hostile.py``). ``build.py`` writes them into a directory, and
``check.py`` compares what an unpacker made with what is expected. Expected trees are computed by the model
(conformance.operations.applying) when the corpus is built, and written by nobody.
"""
