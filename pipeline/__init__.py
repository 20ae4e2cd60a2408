"""How events travel: adapters, the runner, and the shell (cli, api, local) on top."""
