"""Commands about models: list, export, embed, means of weights, runtimes."""
