"""Models on the rows of tables, in the engines that people run: Ray, Dask, Spark, Polars, datasets, Daft.

``tables`` has the one callable that runs in the workers of all of them. Each other module puts it into one engine, and
imports that engine only inside its functions. Modules have the names of their engines: inside a package
that does not matter, as long as its folder is not on the path itself.
"""
