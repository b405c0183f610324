package settings

// Exported for the tests of the manual pages, which are those of the programs.
var (
	EscapeRoff     = escapeRoff
	DisplayDefault = displayDefault
)
