"""Models on the rows of tables, in common engines: Ray, Dask, Spark, Polars, datasets, Daft.

``tables`` has the callable that runs in the workers of all of them. Each other module connects it to one engine, and
imports that engine only inside its functions. Modules have the names of their engines: inside a package, that does not
matter, as long as its folder itself is not on the path.
"""
