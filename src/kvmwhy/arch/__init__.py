"""What a CPU does, one package an architecture: registers, modes, instructions, memory."""
