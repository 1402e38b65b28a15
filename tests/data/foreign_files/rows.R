# Writes one data frame in every way that R has: `LC_ALL=C.UTF-8 Rscript rows.R r` in this folder.
folder <- commandArgs(trailingOnly = TRUE)[1]
path <- function(name) file.path(folder, name)
rows <- data.frame(
  x = c(1e5, Inf, -Inf, NA, 0.1, 123456789.125, -1.5e-300),
  n = c(1L, -3L, NA, 2147483647L, 7L, 100000L, -2147483647L),
  b = c(TRUE, FALSE, NA, TRUE, FALSE, TRUE, FALSE),
  s = c("NA", "a \"b\"", "-", NA, "line\nbreak, \u00e9 \U0001F600", "TRUE", "007"),
  d = as.Date(c("2024-01-31", "1969-12-31", NA, "9999-12-31", "2024-02-29", "1900-02-28", "2000-01-01")),
  t = as.POSIXct("2024-01-31 12:30:00", tz = "UTC") + c(0, 1, NA, 86399, 3600, 60, -1),
  f = factor(c("low", "high", NA, "low", "high", "low", "high")),
  stringsAsFactors = FALSE
)
write.csv(rows, path("write_csv.csv"), row.names = FALSE, na = "")
write.csv(rows, path("write_csv_defaults.csv"))
write.csv2(rows, path("write_csv2.csv"), row.names = FALSE, na = "")
readr::write_csv(rows, path("readr.csv"), na = "")
readr::write_excel_csv(rows, path("readr_excel.csv"), na = "")
data.table::fwrite(rows, path("fwrite.csv"))
data.table::fwrite(rows, path("fwrite_quoted.csv"), quote = TRUE, eol = "\r\n", bom = TRUE)
writeLines(jsonlite::toJSON(rows, na = "null", digits = NA, POSIXt = "ISO8601", UTC = TRUE), path("jsonlite.json"))
lines <- file(path("jsonlite.ndjson"))
jsonlite::stream_out(rows, lines, na = "null", digits = NA, POSIXt = "ISO8601", UTC = TRUE, verbose = FALSE)
