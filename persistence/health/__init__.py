"""How the whole is, as measured: `looking` asks all the others, each of which knows one side."""
