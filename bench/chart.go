package main

import (
	"bytes"
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

// chart is a picture of a result: bars for each subject, lines over a number, or
// what one run was like from its beginning to its end.
type chart struct {
	title string
	unit  string // of the vertical axis

	bars []series // for each subject, one beside the other

	lines  []curve
	trace  func(*measured) []sampled
	across string // what the horizontal axis of lines or a trace counts
}

// series is one figure of every subject.
type series struct {
	name string // "" where there is only one
	of   func(*measured) float64
}

// curve is one figure over a number.
type curve struct {
	name   string
	of     func(*measured) float64
	points []point
}

// point is the subject that was measured for a number.
type point struct {
	x       float64
	subject string
}

// The size of a chart, and what is drawn in it.
const (
	chartWidth  = 18 * vg.Centimeter
	chartHeight = 9 * vg.Centimeter
	chartMargin = vg.Length(8)
	barWidth    = 0.3  // of the distance between two subjects
	headroom    = 1.25 // above the highest figure, for its number and the legend
	lineWidth   = vg.Length(2)
	margin      = 1.5    // the factor that the horizontal axis of lines goes on for
	sans        = "Sans" // the typeface
)

// colours tell series and curves apart, also for most who do not see all colours
// (from the palette of Okabe and Ito).
var colours = []color.Color{
	color.RGBA{R: 0x00, G: 0x72, B: 0xb2, A: 0xff},
	color.RGBA{R: 0xe6, G: 0x9f, B: 0x00, A: 0xff},
}

// draw writes a chart of a result into an SVG file. Its background is white, so
// that it can be read where the page is dark.
func (c *chart) draw(r *result, file string) error {
	p := plot.New()
	p.Title.Text = c.title
	p.Title.Padding = vg.Points(8)
	p.Y.Label.Text = c.unit
	p.Legend.Top = true
	p.Legend.XOffs = -vg.Points(8)
	for _, style := range []*text.Style{
		&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle,
	} {
		style.Font.Variant = sans
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color = nil
	p.Add(grid)
	content := c.drawBars
	switch {
	case c.trace != nil:
		content = c.drawTrace
	case len(c.lines) > 0:
		content = c.drawLines
	}
	if err := content(p, r); err != nil {
		return err
	}
	p.Y.Min = 0
	p.Y.Max *= headroom
	return save(p, file)
}

// save writes a plot with a margin around it.
func save(p *plot.Plot, file string) error {
	svg := vgsvg.New(chartWidth, chartHeight)
	canvas := draw.New(svg)
	canvas.FillPolygon(color.White, []vg.Point{{}, {X: chartWidth}, {X: chartWidth, Y: chartHeight}, {Y: chartHeight}})
	p.Draw(draw.Crop(canvas, chartMargin, -chartMargin, chartMargin, -chartMargin))
	var b bytes.Buffer
	if _, err := svg.WriteTo(&b); err != nil {
		return err
	}
	return os.WriteFile(file, bytes.ReplaceAll(b.Bytes(), []byte(family), []byte(families)), 0o644)
}

// family is the typeface that the library names, alone, and families are those of
// the same width that a reader is likely to have.
const (
	family   = "font-family:Liberation Sans;"
	families = "font-family:Liberation Sans,Arial,Helvetica,sans-serif;"
)

// drawBars draws the medians as bars, each with a line from the least to the most.
func (c *chart) drawBars(p *plot.Plot, r *result) error {
	subjects := c.shown(r)
	for i, one := range c.bars {
		shift := barWidth * (float64(i) - float64(len(c.bars)-1)/2)
		points := spreads{}
		for j, subject := range subjects {
			points = append(points, spreadAt{float64(j) + shift, r.spread(subject, one.of)})
		}
		width := barWidth * chartWidth * 0.8 / vg.Length(len(subjects))
		bars, err := plotter.NewBarChart(points, width)
		if err != nil {
			return err
		}
		bars.XMin, bars.Color, bars.LineStyle.Width = shift, colours[i], 0
		p.Add(bars)
		if err := points.drawOn(p); err != nil {
			return err
		}
		if one.name != "" {
			p.Legend.Add(one.name, bars)
		}
	}
	for i, name := range subjects {
		subjects[i] = strings.Replace(name, ", ", ",\n", 1) // or long names would overlap
	}
	p.NominalX(subjects...)
	p.X.Min, p.X.Max = -0.5, float64(len(subjects))-0.5
	return nil
}

// shown returns the subjects that have one of the figures.
func (c *chart) shown(r *result) (names []string) {
	for _, one := range r.scenario.subjects {
		if r.spread(one.name, c.bars[0].of).Most > 0 {
			names = append(names, one.name)
		}
	}
	return names
}

// drawLines draws the medians as curves over a number that grows by factors.
func (c *chart) drawLines(p *plot.Plot, r *result) error {
	p.X.Label.Text = c.across
	p.X.Scale = plot.LogScale{}
	ticks := map[float64]plot.Tick{} // curves may have the same numbers
	for i, one := range c.lines {
		points := spreads{}
		for _, at := range one.points {
			if r.Rounds[0][at.subject] == nil {
				continue // its system was not measured
			}
			points = append(points, spreadAt{at.x, r.spread(at.subject, one.of)})
			ticks[at.x] = plot.Tick{Value: at.x, Label: number(at.x)}
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
		if err := points.drawOn(p); err != nil {
			return err
		}
		p.Legend.Add(one.name, line)
	}
	p.X.Tick.Marker = plot.ConstantTicks(slices.Collect(maps.Values(ticks)))
	p.X.Min, p.X.Max = p.X.Min/margin, p.X.Max*margin
	return nil
}

// drawTrace draws the first round of the first subject.
func (c *chart) drawTrace(p *plot.Plot, r *result) error {
	p.X.Label.Text = c.across
	points := plotter.XYs{}
	for _, one := range c.trace(r.Rounds[0][r.scenario.subjects[0].name]) {
		points = append(points, plotter.XY{X: one.Seconds, Y: one.MiB})
	}
	line, err := plotter.NewLine(points)
	if err != nil {
		return err
	}
	line.Color, line.Width = colours[0], lineWidth
	p.Add(line)
	return nil
}

// spreadAt is a spread and where it is drawn.
type spreadAt struct {
	x float64
	spread
}

// spreads are what plotter wants to know of them.
type spreads []spreadAt

func (s spreads) Len() int                { return len(s) }
func (s spreads) Value(i int) float64     { return s[i].Median }
func (s spreads) XY(i int) (x, y float64) { return s[i].x, s[i].Median }
func (s spreads) YError(i int) (least, most float64) {
	return s[i].Median - s[i].Least, s[i].Most - s[i].Median
}

// drawOn draws the lines from the least to the most, and the medians as numbers.
func (s spreads) drawOn(p *plot.Plot) error {
	lines, err := plotter.NewYErrorBars(s)
	if err != nil {
		return err
	}
	labels := plotter.XYLabels{}
	for _, one := range s {
		labels.XYs = append(labels.XYs, plotter.XY{X: one.x, Y: one.Most})
		labels.Labels = append(labels.Labels, number(one.Median))
	}
	numbers, err := plotter.NewLabels(labels)
	if err != nil {
		return err
	}
	for i := range numbers.TextStyle {
		numbers.TextStyle[i].XAlign = text.XCenter
		numbers.TextStyle[i].Font.Variant = sans
		numbers.TextStyle[i].Font.Size = font.Length(9)
	}
	numbers.Offset = vg.Point{Y: vg.Points(3)}
	p.Add(lines, numbers)
	return nil
}
