package main

import (
	"bytes"
	"cmp"
	"image/color"
	"maps"
	"os"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Dimensions and style of a chart.
const (
	chartWidth  = 18 * vg.Centimeter
	chartHeight = 9 * vg.Centimeter
	chartMargin = vg.Length(8)
	barWidth    = 0.3  // fraction of the distance between two subjects
	headroom    = 1.25 // factor above the highest figure, for its label and the legend
	lineWidth   = vg.Length(2)
	axisMargin  = 1.5 // factor by which the horizontal axis of curves extends beyond the points
	typeface    = "Sans"
)

// colours distinguish series and curves, also for most readers with colour vision deficiency
// (from the palette of Okabe and Ito).
var colours = []color.Color{
	color.RGBA{R: 0x00, G: 0x72, B: 0xb2, A: 0xff},
	color.RGBA{R: 0xe6, G: 0x9f, B: 0x00, A: 0xff},
}

// drawChart writes a chart of a result into an SVG file. Its background is white, which keeps it
// readable on a dark page.
func drawChart(c *chart, r *result, file string) error {
	p := plot.New()
	p.Title.Text = c.title
	p.Title.Padding = vg.Points(8)
	p.Y.Label.Text = c.unit
	p.Legend.Top = true
	p.Legend.XOffs = -vg.Points(8)
	for _, style := range []*text.Style{
		&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle,
	} {
		style.Font.Variant = typeface
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color = nil
	p.Add(grid)
	content := drawBars
	switch {
	case c.samples != nil:
		content = drawSamples
	case len(c.curves) > 0:
		content = drawCurves
	}
	if err := content(p, c, r); err != nil {
		return err
	}
	p.Y.Min = 0
	p.Y.Max *= headroom
	return saveSVG(p, file)
}

// saveSVG writes a plot with a margin around it.
func saveSVG(p *plot.Plot, file string) error {
	svg := vgsvg.New(chartWidth, chartHeight)
	canvas := draw.New(svg)
	canvas.FillPolygon(color.White, []vg.Point{{}, {X: chartWidth}, {X: chartWidth, Y: chartHeight}, {Y: chartHeight}})
	p.Draw(draw.Crop(canvas, chartMargin, -chartMargin, chartMargin, -chartMargin))
	var b bytes.Buffer
	if _, err := svg.WriteTo(&b); err != nil {
		return err
	}
	return os.WriteFile(file, bytes.ReplaceAll(b.Bytes(), []byte(fontFamily), []byte(fontFallbacks)), 0o644)
}

// fontFamily is the typeface that the library writes into the SVG file. saveSVG replaces it by
// fontFallbacks, a list of typefaces of the same width that readers are likely to have.
const (
	fontFamily    = "font-family:Liberation Sans;"
	fontFallbacks = "font-family:Liberation Sans,Arial,Helvetica,sans-serif;"
)

// drawBars draws the medians as bars, each with an error bar from the minimum to the maximum.
func drawBars(p *plot.Plot, c *chart, r *result) error {
	subjects := visibleSubjects(c, r)
	for i, sr := range c.bars {
		shift := barWidth * (float64(i) - float64(len(c.bars)-1)/2)
		points := spreads{}
		for j, subject := range subjects {
			points = append(points, positionedSpread{float64(j) + shift, r.figure(subject, sr.value)})
		}
		width := barWidth * chartWidth * 0.8 / vg.Length(len(subjects))
		bars, err := plotter.NewBarChart(points, width)
		if err != nil {
			return err
		}
		bars.XMin, bars.Color, bars.LineStyle.Width = shift, colours[i], 0
		p.Add(bars)
		if err := points.drawErrorBars(p); err != nil {
			return err
		}
		if sr.name != "" {
			p.Legend.Add(sr.name, bars)
		}
	}
	for i, name := range subjects {
		subjects[i] = strings.NewReplacer(", ", ",\n", " of ", "\nof ").Replace(name) // keeps long names from overlapping
	}
	p.NominalX(subjects...)
	p.X.Min, p.X.Max = -0.5, float64(len(subjects))-0.5
	return nil
}

// visibleSubjects returns the subjects whose first figure is not zero.
func visibleSubjects(c *chart, r *result) (names []string) {
	for _, sub := range r.scenario.subjects {
		if r.figure(sub.name, c.bars[0].value).Max > 0 {
			names = append(names, sub.name)
		}
	}
	return names
}

// drawCurves draws the medians as curves, with a logarithmic horizontal axis.
func drawCurves(p *plot.Plot, c *chart, r *result) error {
	p.X.Label.Text = c.xLabel
	p.X.Scale = plot.LogScale{}
	ticks := map[float64]plot.Tick{} // a map, because curves can share values of x
	for i, cv := range c.curves {
		points := spreads{}
		for _, pt := range cv.points {
			if r.Rounds[0][pt.subject] == nil {
				continue // its system was not measured
			}
			points = append(points, positionedSpread{pt.x, r.figure(pt.subject, cv.value)})
			ticks[pt.x] = plot.Tick{Value: pt.x, Label: formatNumber(pt.x)}
		}
		if len(points) == 0 {
			continue
		}
		line, marks, err := plotter.NewLinePoints(points)
		if err != nil {
			return err
		}
		line.Color, line.Width, marks.Color, marks.Shape = colours[i], lineWidth, colours[i], draw.CircleGlyph{}
		p.Add(line, marks)
		if err := points.drawErrorBars(p); err != nil {
			return err
		}
		p.Legend.Add(cv.name, line)
	}
	p.X.Tick.Marker = plot.ConstantTicks(slices.SortedFunc(maps.Values(ticks), func(a, b plot.Tick) int { return cmp.Compare(a.Value, b.Value) }))
	p.X.Min, p.X.Max = p.X.Min/axisMargin, p.X.Max*axisMargin
	return nil
}

// drawSamples draws the samples of the first round of the first subject.
func drawSamples(p *plot.Plot, c *chart, r *result) error {
	p.X.Label.Text = c.xLabel
	points := plotter.XYs{}
	for _, smp := range c.samples(r.Rounds[0][r.scenario.subjects[0].name]) {
		points = append(points, plotter.XY{X: smp.Seconds, Y: smp.MiB})
	}
	line, err := plotter.NewLine(points)
	if err != nil {
		return err
	}
	line.Color, line.Width = colours[0], lineWidth
	p.Add(line)
	return nil
}

// positionedSpread is a spread and its position on the horizontal axis.
type positionedSpread struct {
	x float64
	spread
}

// spreads implements the interfaces of package plotter for values and error bars.
type spreads []positionedSpread

func (s spreads) Len() int                { return len(s) }
func (s spreads) Value(i int) float64     { return s[i].Median }
func (s spreads) XY(i int) (x, y float64) { return s[i].x, s[i].Median }
func (s spreads) YError(i int) (low, high float64) {
	return s[i].Median - s[i].Min, s[i].Max - s[i].Median
}

// drawErrorBars draws lines from the minimum to the maximum, and the medians as numbers.
func (s spreads) drawErrorBars(p *plot.Plot) error {
	lines, err := plotter.NewYErrorBars(s)
	if err != nil {
		return err
	}
	labels := plotter.XYLabels{}
	for _, sp := range s {
		labels.XYs = append(labels.XYs, plotter.XY{X: sp.x, Y: sp.Max})
		labels.Labels = append(labels.Labels, formatNumber(sp.Median))
	}
	numbers, err := plotter.NewLabels(labels)
	if err != nil {
		return err
	}
	for i := range numbers.TextStyle {
		numbers.TextStyle[i].XAlign = text.XCenter
		numbers.TextStyle[i].Font.Variant = typeface
		numbers.TextStyle[i].Font.Size = font.Length(9)
	}
	numbers.Offset = vg.Point{Y: vg.Points(3)}
	p.Add(lines, numbers)
	return nil
}
