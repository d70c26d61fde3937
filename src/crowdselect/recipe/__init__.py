"""The whole chain from one file: a recipe is a graph of steps, each one command in a process of its own.

commands     the commands a recipe may hold: their options, taken from click; options to arguments and back
reading      a TOML file to tables of options; lists to sweeps
graph        tables to steps, each with the steps it needs; titles: what they are called
content      what an option or a file is, whatever it is called: the keys of steps
store        the folder of results: which steps are done, one run at a time
needs        what later steps need of those before; packages and keys that are there
planning     done and to do, and what it costs where that is known
running      the steps in their order, each as a process with its output in a log
results      what came out, one row per run; page: the same as HTML
command      the command, and a recipe to begin with
"""
