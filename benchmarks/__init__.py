"""What is measured, each against an independent plain implementation, on the machine that runs it."""
