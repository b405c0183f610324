// Package architecture tests rules about the sources of this project: the imports of each
// package, which the table in importrules_test.go allows with a reason, the size of main
// functions, the use of atomics, and that the documents name all log lines and only tests that
// exist.
//
// It contains no code of the hub, and no package imports it. The purpose of a package is in the
// comment of that package; the table has only the imports.
package architecture
