"""The record of what was asked for, and the chain that shows any line changed."""
