"""The whole chain from one file: a recipe is a graph of steps, each one command in a process of its own.

reading      a TOML file to tables of options, which are click's own; lists to sweeps; what steps are called
graph        tables to steps, each with the steps it needs
store        the folder of results: the keys of steps, which of them are done, one run at a time
needs        what a run needs, of the steps before and of this machine
running      the steps in their order, each as a process: what it would do, and its run with a log
results      what came out, one row per run; page: the same as HTML
command      the command, and a recipe to begin with
"""
