// What every client must do (clients/README.md): conformance vectors FILE | talk | again
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"

	"keychainauth"
)

const service = "conformance"

func main() {
	switch os.Args[1] {
	case "vectors":
		vectors(os.Args[2])
	case "talk":
		talk().Close()
	case "again":
		client := talk()
		fmt.Println("restart the daemon")
		bufio.NewReader(os.Stdin).ReadByte()
		must(client.Write(service, map[string]string{"b/ключ": "anew"}, nil))
		value, found, err := client.Get(service, "b/ключ")
		check("again", err, found && value == "anew")
	}
}

func vectors(file string) {
	text, err := os.ReadFile(file)
	must(err)
	var document struct {
		Vectors []struct{ Request *keychainauth.Request }
	}
	must(json.Unmarshal(text, &document))
	for _, vector := range document.Vectors {
		if vector.Request != nil {
			if vector.Request.Match == "exact" { // the default, which the vectors write out
				vector.Request.Match = ""
			}
			line, err := vector.Request.Encode()
			must(err)
			os.Stdout.Write(line)
		}
	}
}

func talk() *keychainauth.Client {
	client, err := keychainauth.New()
	must(err)
	odd := "ünï\n\"quoted\"\\\x00\u2028😀"
	env := map[string]string{"env": "test"}
	check("write", client.Write(service, map[string]string{"a:1": "1", "a:2": odd, "b/ключ": ""}, env), true)
	value, found, err := client.Get(service, "a:2")
	empty, foundEmpty, emptyErr := client.Get(service, "b/ключ")
	check("get", first(err, emptyErr), found && value == odd && foundEmpty && empty == "")
	_, found, err = client.Get(service, "nothing")
	check("absent", err, !found)
	read, err := client.Read(service, "b/ключ", "nothing", "a:1")
	check("order", err, reflect.DeepEqual(read, []keychainauth.Secret{
		{Target: "b/ключ", Value: "", Attributes: env}, {Target: "a:1", Value: "1", Attributes: env},
	}))
	read, err = client.ReadPrefix(service, "a:")
	check("prefix", err, names(read) == "a:1 a:2")
	read, err = client.Search(service)
	check("search", err, names(read) == "a:1 a:2 b/ключ" && read[0].Value == "")
	check("check", client.Check(service), true)
	long := strings.Repeat("é", 120000)
	must(client.Write(service, map[string]string{"long": long}, nil))
	check("many", many(client, long), true)
	_, _, err = client.Get("not-granted", "x")
	var refused *keychainauth.Error
	isRefused := errors.As(err, &refused) && refused.Reason == "service_not_allowed" && refused.Status == "denied"
	value, _, err = client.Get(service, "a:1")
	check("denied", err, isRefused && value == "1")
	must(client.Delete(service, "long", "nothing"))
	_, err = client.Do(keychainauth.Request{Action: "delete", Service: service, Match: "prefix", Targets: []string{"a:"}})
	must(err)
	read, err = client.Search(service)
	check("delete", err, names(read) == "b/ключ")
	return client
}

func many(client *keychainauth.Client, long string) error {
	var group sync.WaitGroup
	problems := make(chan error, 40)
	for at := 0; at < 40; at++ {
		group.Add(1)
		go func(at int) {
			defer group.Done()
			target, wanted := "a:1", "1"
			if at%2 == 1 {
				target, wanted = "long", long
			}
			value, _, err := client.Get(service, target)
			if err == nil && value != wanted {
				err = fmt.Errorf("%s is wrong", target)
			}
			problems <- err
		}(at)
	}
	group.Wait()
	close(problems)
	for err := range problems {
		if err != nil {
			return err
		}
	}
	return nil
}

func names(found []keychainauth.Secret) string {
	targets := make([]string, 0, len(found))
	for _, each := range found {
		targets = append(targets, each.Target)
	}
	return strings.Join(targets, " ")
}

func first(problems ...error) error {
	for _, err := range problems {
		if err != nil {
			return err
		}
	}
	return nil
}

func check(name string, err error, right bool) {
	must(err)
	if !right {
		must(fmt.Errorf("%s is wrong", name))
	}
	fmt.Println("ok", name)
}

func must(err error) {
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}
