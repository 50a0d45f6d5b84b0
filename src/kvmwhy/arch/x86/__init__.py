"""What the CPU was doing: mode, instruction, operand address, what lives there. Pure."""
