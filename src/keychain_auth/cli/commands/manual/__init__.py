"""The manual and the completions, made from the commands themselves: what ``--help`` says is what they say."""
