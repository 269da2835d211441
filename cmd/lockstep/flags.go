package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"lockstep/cmd/lockstep/internal/settings"
)

// ofOneNode annotates a flag of serve that cannot be the same for several nodes
// on one machine.
const ofOneNode = "of-one-node"

// markOfOneNode marks flags so.
func markOfOneNode(flags *pflag.FlagSet, names ...string) {
	for _, name := range names {
		annotate(flags, name, ofOneNode)
	}
}

// loadsItself marks commands whose settings may come from a file, which they load.
var loadsItself = map[string]string{"settings": "of a file, too"}

// annotate says something of a flag.
func annotate(flags *pflag.FlagSet, name, key string, values ...string) {
	if err := flags.SetAnnotation(name, key, append([]string{}, values...)); err != nil {
		panic(err) // there is no such flag
	}
}

// variablePrefix is what the names of all variables begin with.
const variablePrefix = "LOCKSTEP_"

// bind names the variable that sets a flag, and says so in its description.
func bind(flags *pflag.FlagSet, name, variable string) {
	annotate(flags, name, settings.Environment, variable)
	flags.Lookup(name).Usage += " [" + variable + "]"
}

// bindAll binds each flag that has no variable yet to LOCKSTEP_ and its name.
func bindAll(flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Annotations[settings.Environment] == nil {
			bind(flags, f.Name, variablePrefix+strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_")))
		}
	})
}

// fromEnvironment sets the flags that the command line leaves out.
func fromEnvironment(flags *pflag.FlagSet) error {
	var first error
	flags.VisitAll(func(f *pflag.Flag) {
		variable := f.Annotations[settings.Environment]
		if f.Changed || variable == nil || first != nil {
			return
		}
		value, ok := os.LookupEnv(variable[0])
		if !ok || value == "" {
			return
		}
		if err := f.Value.Set(value); err != nil {
			first = fmt.Errorf("%s=%s: %w", variable[0], value, err)
		}
	})
	return first
}
