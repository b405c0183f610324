// Package architecture holds the arrows between the packages of this project:
// its test lists what each of them imports and fails, by name and with the
// reason, on an import that the table in rooms_test.go does not allow.
//
// It contains no code of the hub and nothing imports it. What a package is for
// is said by the package's own comment; here stands only what it may know.
package architecture
