package main

import (
	"encoding/json"
	"os"
)

// output writes results to files, in addition to the terminal.
type output struct {
	json       string // path of the file; "" for none
	page       *page  // nil for none
	machine    string
	provenance string // returned by describeProvenance
	results    map[string]*result
}

// newOutput returns an output into a JSON file and a page; "" for none. The page must have a
// section for the machine and for each scenario.
func newOutput(jsonFile, docs string, scenarios []*scenario) (*output, error) {
	out := &output{json: jsonFile, results: map[string]*result{}}
	if docs == "" {
		return out, nil
	}
	out.page = &page{docs}
	sections := []string{machineSection}
	for _, s := range scenarios {
		sections = append(sections, s.name)
	}
	return out, out.page.check(sections)
}

func (o *output) begin(machine, provenance string) error {
	o.machine, o.provenance = machine, provenance
	if o.page == nil {
		return nil
	}
	return o.page.writeSection(machineSection, machine)
}

// add writes a result to the page and to the JSON file.
func (o *output) add(r *result) error {
	o.results[r.scenario.name] = r
	if o.page != nil {
		if err := o.page.writeResult(r, o.provenance); err != nil {
			return err
		}
	}
	if o.json == "" {
		return nil
	}
	b, err := json.MarshalIndent(struct {
		Machine string             `json:"machine"`
		Origin  string             `json:"origin"`
		Results map[string]*result `json:"results"`
	}{o.machine, o.provenance, o.results}, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(o.json, append(b, '\n'), 0o644)
}
