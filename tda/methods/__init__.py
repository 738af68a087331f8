"""Attribution methods, a file each: posterior, objective and data become scores."""
