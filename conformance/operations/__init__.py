"""Operations in a mounted layer, and their interpreters: the model, the kernel, the shell."""
